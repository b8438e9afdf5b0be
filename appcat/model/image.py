"""A built image: kernel and initial file system, named by their content, with all that a machine needs to know."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from appcat.model.codec import Kind, dumps, loads
from appcat.model.vm import Arch

IMAGE_KIND = Kind("image.json", schema=1)

# What the guest program of an image understands: sections of files and cards behind root ports from level 2 on.
GUEST_LEVEL = 2
GUEST_OF_NETWORKS = 2


class SshServer(StrEnum):
    """Which SSH server a guest runs: it decides the format of the host key that the guest is given."""

    DROPBEAR = "dropbear"
    OPENSSH = "openssh"


@dataclass(frozen=True)
class Package:
    """A distribution package that went into an image; ``sha256`` is of its archive."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True)
class ImageFile:
    """One file of an image: its name in the image's directory, its size in bytes, its checksum."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Image:
    """The manifest of one image.

    ``digest`` names it: the same content, the same digest. ``vmlinux`` and ``rootfs`` are ``kernel`` and ``initramfs``
    decompressed: guests start from them, since decompressing under software emulation takes longer than all the rest
    of the boot. They can be made again from the compressed pair, and so count as cache. ``memory`` is in bytes,
    ``guest`` the level of its guest program: an image outlives the appcat that built it, as long as a vm uses it.
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

    @property
    def knows_networks(self) -> bool:
        """Whether its guests can be told of private networks."""
        return self.guest >= GUEST_OF_NETWORKS

    @property
    def compressed_size(self) -> int:
        """Bytes of kernel and initramfs together: what would travel."""
        return self.kernel.size + self.initramfs.size

    @property
    def files(self) -> tuple[ImageFile, ...]:
        """All files beside the manifest."""
        return (self.kernel, self.initramfs, self.vmlinux, self.rootfs)


def image_to_json(image: Image) -> str:
    """The text of ``image.json``."""
    return dumps(image, IMAGE_KIND)


def image_from_json(text: str) -> Image:
    """The image a manifest describes; raises Broken."""
    return loads(Image, text, IMAGE_KIND)
