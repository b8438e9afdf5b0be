"""The cache of images. Everything in it can be made again, so what is damaged is never trusted, only replaced.

::

    CACHE/images/
      DIGEST/                   an image, named by its content; complete or absent, since it appears by one rename
        image.json              the manifest (``model.image.Image``)
        kernel initramfs        what makes it up, compressed
        vmlinux rootfs          the same decompressed: what machines start from
        root.qcow2              a compressed root disk, where the root is not in memory
      recipes/FINGERPRINT       text: the digest of the image that was built from this recipe
      recipes/FINGERPRINT.lock  held by the one process that builds it
      staging/FINGERPRINT/      an image being built; left over when its builder died, swept by the next one
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from appcat.checks import Check, unchecked
from appcat.errors import AppcatError, Broken, Busy, NotFound, from_os_error
from appcat.model.image import Image, ImageFile, image_from_json, image_to_json
from appcat.store.files import make_private_directory, remove_tree, sync_directory, unlink, write_atomic
from appcat.store.locks import lock_within, open_lock, try_lock

MANIFEST = "image.json"
KERNEL = "kernel"
INITRAMFS = "initramfs"
VMLINUX = "vmlinux"
ROOTFS = "rootfs"
DISK = "root.qcow2"
_RECIPES = "recipes"
_STAGING = "staging"
_LOCK_SUFFIX = ".lock"
_GONE = "gone-"
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)

BUILD_WAIT = 3600.0


@dataclass(frozen=True)
class StoredImage:
    """An image and the directory that holds it."""

    image: Image
    directory: Path

    @property
    def kernel(self) -> Path:
        """The kernel as the distribution ships it."""
        return self.directory / self.image.kernel.name

    @property
    def initramfs(self) -> Path:
        """The initial file system, compressed."""
        return self.directory / self.image.initramfs.name

    @property
    def vmlinux(self) -> Path:
        """The kernel to start a machine with: decompressed."""
        return self.directory / self.image.vmlinux.name

    @property
    def rootfs(self) -> Path:
        """The initial file system to start a machine with: decompressed."""
        return self.directory / self.image.rootfs.name

    def disk(self, name: str) -> Path | None:
        """What vms' disks of this name stand on; None for one that is blank, or that it has not."""
        found = next((disk.file for disk in self.image.disks if disk.name == name), None)
        return self.directory / found.name if found else None


class ImageStore:
    """Images below ``root`` (``CACHE/images``)."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def get(self, digest: str) -> StoredImage:
        """The image called ``digest``; raises NotFound, or Broken when files are missing or of the wrong size."""
        return read_image(self._root / digest)

    def verify(self, digest: str) -> StoredImage:
        """Like ``get``, and every byte is compared with the manifest's checksums; raises Broken."""
        stored = self.get(digest)
        verify_image(stored)
        return stored

    def find(self, fingerprint: str) -> StoredImage | None:
        """The image built from the recipe with ``fingerprint``; None when there is none that can be trusted."""
        try:
            return self.get((self._root / _RECIPES / fingerprint).read_text().strip())
        except (AppcatError, OSError, UnicodeDecodeError):
            return None

    def all(self) -> list[StoredImage]:
        """Every sound image, by template name."""
        found = []
        for manifest in self._root.glob(f"*/{MANIFEST}"):
            try:
                found.append(self.get(manifest.parent.name))
            except AppcatError:
                continue
        return sorted(found, key=lambda stored: (stored.image.template, stored.image.digest))

    @contextmanager
    def building(self, fingerprint: str, check: Check = unchecked) -> Iterator[Path]:
        """An empty staging directory, while nobody else builds the same recipe; raises Unavailable, InsufficientSpace.

        Waits for another builder, calling ``check``; look with ``find`` once inside. What is left in the directory is
        removed at the end.
        """
        make_private_directory(self._root / _RECIPES)
        descriptor = open_lock(self._lock(fingerprint))
        try:
            if not lock_within(descriptor, BUILD_WAIT, check=check):
                raise Busy("another command has been building this template for an hour", hint="see what it waits for")
            self._sweep()
            staging = self._root / _STAGING / fingerprint
            remove_tree(staging)
            make_private_directory(staging)
            try:
                yield staging
            finally:
                remove_tree(staging)
        finally:
            os.close(descriptor)

    def publish(self, image: Image, directory: Path, fingerprint: str) -> StoredImage:
        """Make the image whose files are in ``directory`` (inside staging) the one of ``fingerprint``."""
        write_atomic(directory / MANIFEST, image_to_json(image), mode=0o644)
        target = self._root / image.digest
        try:
            for file in image.files:
                _sync(directory / file.name)
            if not self._is_sound(image.digest):
                remove_tree(target)
                directory.rename(target)
                sync_directory(self._root)
        except OSError as error:
            raise from_os_error(error, "putting the image into the cache") from error
        write_atomic(self._root / _RECIPES / fingerprint, image.digest + "\n", mode=0o644)
        return self.get(image.digest)

    def remove(self, digest: str) -> None:
        """Remove an image, and what says that recipes gave it."""
        for recipe in (self._root / _RECIPES).glob("*"):
            with contextlib.suppress(OSError, UnicodeDecodeError):
                if recipe.suffix != _LOCK_SUFFIX and recipe.read_text().strip() == digest:
                    unlink(recipe)
        gone = self._root / _STAGING / f"{_GONE}{digest}"
        make_private_directory(gone.parent)
        remove_tree(gone)
        with contextlib.suppress(FileNotFoundError):
            (self._root / digest).rename(gone)  # at once for whoever looks; what a kill leaves of it is swept
        remove_tree(gone)

    def directories(self) -> list[Path]:
        """Where images are, sound or not."""
        return sorted(path for path in self._root.glob("*") if _DIGEST.fullmatch(path.name))

    def sweep(self) -> None:
        """Remove what builders that died have left."""
        self._sweep()

    def _is_sound(self, digest: str) -> bool:
        try:
            self.verify(digest)
        except AppcatError:
            return False
        return True

    def _sweep(self) -> None:
        """Remove what builders that died have left in staging."""
        staging = self._root / _STAGING
        for leftover in staging.iterdir() if staging.is_dir() else ():
            if leftover.name.startswith(_GONE):
                remove_tree(leftover)
                continue
            descriptor = open_lock(self._lock(leftover.name))
            try:
                if try_lock(descriptor):
                    remove_tree(leftover)
            finally:
                os.close(descriptor)

    def _lock(self, fingerprint: str) -> Path:
        return self._root / _RECIPES / (fingerprint + _LOCK_SUFFIX)


def read_image(directory: Path) -> StoredImage:
    """The image in ``directory``; raises NotFound, or Broken when files are missing or of the wrong size."""
    name = directory.name[:12]
    try:
        image = image_from_json((directory / MANIFEST).read_text())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(f"image {name} is not in the cache", hint="run 'appcat template build'") from error
    except (OSError, UnicodeDecodeError) as error:
        raise Broken(f"image {name} cannot be read: {error}", hint="run 'appcat template build'") from error
    stored = StoredImage(image, directory)
    for file in image.files:
        _check_size(stored, file)
    return stored


def verify_image(stored: StoredImage) -> None:
    """Compare every byte with the manifest's checksums; raises Broken."""
    for file in stored.image.files:
        if file_sha256(stored.directory / file.name) != file.sha256:
            raise _damaged(stored, file)


def describe_file(path: Path) -> ImageFile:
    """The manifest's record of a file."""
    return ImageFile(path.name, path.stat().st_size, file_sha256(path))


def file_sha256(path: Path) -> str:
    """The checksum of a file's content; raises Unavailable."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise from_os_error(error, "reading an image") from error


def _check_size(stored: StoredImage, file: ImageFile) -> None:
    try:
        size = (stored.directory / file.name).stat().st_size
    except OSError:
        size = -1
    if size != file.size:
        raise _damaged(stored, file)


def _damaged(stored: StoredImage, file: ImageFile) -> Broken:
    return Broken(
        f"image {stored.image.digest[:12]} of template {stored.image.template} is damaged: {file.name}",
        hint=f"run 'appcat template build {stored.image.template}'",
    )


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
