"""The file that an image travels in: a tar with ``image.json`` first, sizes and checksums in it, then the files.

What can be made again (the decompressed pair) does not travel.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from appcat.build.kernel import decompress_kernel
from appcat.build.packing import decompress
from appcat.checks import Check
from appcat.errors import Broken
from appcat.model.image import Image, ImageFile, image_from_json, image_to_json, with_digest
from appcat.store.images import MANIFEST, ROOTFS, VMLINUX, StoredImage, read_image, verify_image

LARGEST_MANIFEST = 4 << 20
_PIECE = 1 << 20


def write_bundle(stored: StoredImage, file: IO[bytes], told: Callable[[str], object], check: Check) -> None:
    """Write an image into ``file``; ``told`` hears which part is next. Raises OSError."""
    with tarfile.open(fileobj=file, mode="w") as tar:
        _add(tar, MANIFEST, io.BytesIO(data := image_to_json(stored.image).encode()), len(data))
        for described in _travelling(stored.image):
            check()
            told(described.name)
            with (stored.directory / described.name).open("rb") as part:
                _add(tar, described.name, part, described.size)


def read_manifest(tar: tarfile.TarFile) -> Image:
    """The image that a file opened as a stream begins with; raises Broken when it is none, or not the one it says."""
    first = tar.next()
    content = tar.extractfile(first) if first and first.name == MANIFEST and first.size <= LARGEST_MANIFEST else None
    if content is None:
        raise Broken(f"it does not begin with {MANIFEST}")
    image = image_from_json(content.read().decode(errors="replace"))
    for file in image.files:
        if Path(file.name).name != file.name or file.name.startswith("."):
            raise Broken(f"{file.name} is no name for a file")
    if with_digest(image).digest != image.digest:
        raise Broken("its manifest does not fit its name")
    return image


def extract(tar: tarfile.TarFile, image: Image, directory: Path, check: Check) -> None:
    """The files that the manifest names, no others, and no more of them than it says; raises Broken, OSError."""
    wanted = {file.name: file for file in _travelling(image)}
    while (member := tar.next()) is not None:
        described, content = wanted.pop(member.name, None), tar.extractfile(member)
        if described is None or content is None or member.size != described.size:
            raise Broken(f"{member.name} is not what its manifest says")
        with (directory / member.name).open("xb") as target:
            while piece := content.read(_PIECE):
                check()
                target.write(piece)
    if wanted:
        raise Broken(f"{min(wanted)} is missing")


def complete(directory: Path, image: Image) -> None:
    """Make what did not travel, and compare all with the manifest; raises Broken, OSError."""
    (directory / VMLINUX).write_bytes(decompress_kernel((directory / image.kernel.name).read_bytes()))
    (directory / ROOTFS).write_bytes(decompress((directory / image.initramfs.name).read_bytes(), image.rootfs.size))
    (directory / MANIFEST).write_text(image_to_json(image))
    verify_image(read_image(directory))


def _travelling(image: Image) -> list[ImageFile]:
    """The files that cannot be made again from others."""
    return [file for file in image.files if file not in (image.vmlinux, image.rootfs)]


def _add(tar: tarfile.TarFile, name: str, content: IO[bytes], size: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = size
    entry.mode = 0o644
    tar.addfile(entry, content)
