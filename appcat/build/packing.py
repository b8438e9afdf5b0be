"""From parts to an image's files and its manifest."""

from __future__ import annotations

import lzma
from collections.abc import Iterable, Iterator
from pathlib import Path

from appcat.build.kernel import decompress_kernel
from appcat.build.recipe import Source
from appcat.checks import Check, unchecked
from appcat.errors import Broken, BuildError
from appcat.model.image import GUEST_LEVEL, Image, ImageDisk, Package, Root, with_digest
from appcat.model.size import format_size
from appcat.model.template import Recipe
from appcat.model.vm import ROOT_DISK
from appcat.store.images import DISK, INITRAMFS, KERNEL, ROOTFS, VMLINUX, describe_file

_PIECE = 256 << 10


def pack(kernel: bytes, rootfs: bytes, output: Path, check: Check) -> None:
    """Write what a machine starts from: both parts compressed and decompressed."""
    output.mkdir()
    (output / KERNEL).write_bytes(kernel)
    (output / VMLINUX).write_bytes(decompress_kernel(kernel))
    (output / ROOTFS).write_bytes(rootfs)
    (output / INITRAMFS).write_bytes(compress(rootfs, check))


def compress(data: bytes, check: Check = unchecked) -> bytes:
    """As small as a kernel can still read: its xz knows this filter for program code and only this kind of checksum.

    In pieces, between which ``check`` is called; they make no difference to the result.
    """
    code = {"id": lzma.FILTER_X86}
    dictionary = {"id": lzma.FILTER_LZMA2, "preset": 9}
    packer = lzma.LZMACompressor(check=lzma.CHECK_CRC32, filters=[code, dictionary])
    packed = bytearray()
    for start in range(0, len(data), _PIECE):
        check()
        packed += packer.compress(memoryview(data)[start : start + _PIECE])
    return bytes(packed + packer.flush())


def decompress(data: bytes, size: int) -> bytes:
    """What ``compress`` was given, of ``size`` bytes; raises Broken when it is anything else."""
    try:
        content = lzma.LZMADecompressor().decompress(data, max_length=size + 1)
    except lzma.LZMAError as error:
        raise Broken(f"the initial file system cannot be decompressed: {error}") from error
    if len(content) != size:
        raise Broken("the initial file system is not as large as its manifest says")
    return content


def describe(source: Source, output: Path, packages: Iterable[Package]) -> Image:
    """The manifest of the image whose files are in ``output``."""
    recipe = source.recipe
    names = (KERNEL, INITRAMFS, VMLINUX, ROOTFS)
    kernel, initramfs, vmlinux, rootfs = (describe_file(output / name) for name in names)
    return with_digest(
        Image(
            template=recipe.name,
            digest="",
            arch=source.arch,
            kernel=kernel,
            initramfs=initramfs,
            vmlinux=vmlinux,
            rootfs=rootfs,
            arguments=" ".join(source.kernel.arguments),
            login=recipe.login,
            ssh=recipe.ssh,
            cpus=recipe.cpus,
            memory=recipe.memory,
            packages=tuple(sorted(packages, key=lambda package: package.name)),
            guest=GUEST_LEVEL,
            disks=tuple(_disks(recipe, output)),
            base=recipe.base,
            description=recipe.description,
            ports=recipe.ports,
            certificate=recipe.certificate,
        )
    )


def _disks(recipe: Recipe, output: Path) -> Iterator[ImageDisk]:
    if recipe.root is Root.DISK:
        yield ImageDisk(ROOT_DISK, recipe.size, describe_file(output / DISK))
    for name, size in recipe.disks.items():
        yield ImageDisk(name, size)


def check_limit(recipe: Recipe, image: Image) -> None:
    """Raise BuildError when the image is larger than its recipe allows."""
    if recipe.limit is not None and image.compressed_size > recipe.limit:
        raise BuildError(
            f"template {recipe.name} is {format_size(image.compressed_size)}, more than its limit of "
            f"{format_size(recipe.limit)}",
            hint="take something out of it, or raise the limit",
        )
