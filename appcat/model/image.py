"""A built image: kernel and initial file system, named by their content, with all that a machine needs to know."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from appcat.model.codec import Kind, dumps, loads
from appcat.model.vm import ROOT_DISK, Arch


def _unchanged(body: dict[str, Any]) -> dict[str, Any]:
    """From schema 1, which knew no root disks."""
    return body


IMAGE_KIND = Kind("image.json", schema=2, migrations={1: _unchanged})

# What the guest program of an image understands: sections of files and cards behind root ports from level 2 on.
GUEST_LEVEL = 2
GUEST_OF_NETWORKS = 2


class SshServer(StrEnum):
    """Which SSH server a guest runs: it decides the format of the host key that the guest is given."""

    DROPBEAR = "dropbear"
    OPENSSH = "openssh"


class Root(StrEnum):
    """Where a guest's root file system is: in its memory, gone at power-off, or on a disk of its own."""

    MEMORY = "memory"
    DISK = "disk"


@dataclass(frozen=True)
class Package:
    """A distribution package that went into an image.

    ``sha256`` is of its archive, ``licenses`` are the short names that its copyright file declares; of images built by
    earlier versions they are not known.
    """

    name: str
    version: str
    sha256: str
    licenses: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImageFile:
    """One file of an image: its name in the image's directory, its size in bytes, its checksum."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class ImageDisk:
    """A disk that vms with this image have from the beginning: a blank one of ``size`` bytes, or with ``file`` a qcow2
    for theirs to stand on. One called ``root`` has the root file system.
    """

    name: str
    size: int
    file: ImageFile | None = None


@dataclass(frozen=True)
class Image:
    """The manifest of one image.

    ``digest`` names it: the same content, the same digest. ``vmlinux`` and ``rootfs`` are ``kernel`` and ``initramfs``
    decompressed: guests start from them, since decompressing under software emulation takes longer than all the rest
    of the boot. They can be made again from the compressed pair, and so count as cache. ``memory`` is in bytes,
    ``guest`` the level of its guest program: an image outlives the appcat that built it, as long as a vm uses it.

    ``base`` names the template that it was built on, if it was; ``description`` is for people. ``ports`` of its vms are
    published by their numbers, and ``certificate`` is the directory where each finds one of its own, or nothing.
    """

    template: str
    digest: str
    arch: Arch
    kernel: ImageFile
    initramfs: ImageFile
    vmlinux: ImageFile
    rootfs: ImageFile
    arguments: str
    login: str
    ssh: SshServer
    cpus: int
    memory: int
    packages: tuple[Package, ...]
    guest: int = 1
    disks: tuple[ImageDisk, ...] = ()
    base: str = ""
    description: str = ""
    ports: tuple[int, ...] = ()
    certificate: str = ""

    @property
    def knows_networks(self) -> bool:
        """Whether its guests can be told of private networks."""
        return self.guest >= GUEST_OF_NETWORKS

    @property
    def compressed_size(self) -> int:
        """Bytes of kernel, initramfs and disks together: what would travel."""
        return self.kernel.size + self.initramfs.size + sum(file.size for file in self._disk_files)

    @property
    def root(self) -> ImageDisk | None:
        """The disk with the root file system; None where that is in memory."""
        return next((disk for disk in self.disks if disk.name == ROOT_DISK), None)

    @property
    def _disk_files(self) -> tuple[ImageFile, ...]:
        return tuple(disk.file for disk in self.disks if disk.file)

    @property
    def files(self) -> tuple[ImageFile, ...]:
        """All files beside the manifest."""
        return (self.kernel, self.initramfs, self.vmlinux, self.rootfs, *self._disk_files)


def with_digest(image: Image) -> Image:
    """The image under the name that its content gives it: what machines start from, and what they are told by it."""
    versions = [(package.name, package.version, package.sha256) for package in image.packages]
    essentials = (image.template, image.arch, image.kernel.sha256, image.initramfs.sha256, image.arguments, image.login,
                  image.ssh, str(image.cpus), str(image.memory), str(versions), *map(str, image.disks),
                  *map(str, image.ports), *filter(None, [image.certificate]))  # fmt: skip
    return replace(image, digest=hashlib.sha256("\n".join(essentials).encode()).hexdigest())


def image_to_json(image: Image) -> str:
    """The text of ``image.json``."""
    return dumps(image, IMAGE_KIND)


def image_from_json(text: str) -> Image:
    """The image a manifest describes; raises Broken."""
    return loads(Image, text, IMAGE_KIND)
