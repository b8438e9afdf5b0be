"""A template with a root disk whose image is in the cache: real files, nothing that would boot."""

from __future__ import annotations

from pathlib import Path

from appcat.build.catalog import fingerprint
from appcat.build.packing import compress
from appcat.model.image import Image, ImageDisk, Package, SshServer, with_digest
from appcat.model.size import GIB
from appcat.qemu import img
from appcat.services.context import Context
from appcat.store import images
from appcat.store.images import ImageStore, StoredImage, describe_file
from tests.unit.model.test_template import SYSTEM

SIZE = GIB


def add_template(ctx: Context, name: str = "full", text: str = SYSTEM) -> Path:
    """A recipe among those that come with appcat, which a home of a test does not have."""
    directory = ctx.settings.templates / name
    directory.mkdir(parents=True)
    (directory / "template.toml").write_text(text.replace('name = "full"', f'name = "{name}"'))
    (directory / "motd").write_text("welcome")
    return directory


def add_image(ctx: Context, name: str = "full", content: str = "content") -> StoredImage:
    """An image of that recipe, with a root disk and a blank one."""
    mark = fingerprint(ctx.settings.templates / name, ctx.settings.templates, ctx.arch)
    store = ImageStore(ctx.layout.images)
    with store.building(mark) as staging:
        output = staging / "image"
        output.mkdir()
        image = write_image(ctx, output, name, content)
        return store.publish(image, output, mark)


def write_image(ctx: Context, output: Path, name: str, content: str) -> Image:
    rootfs = f"root of {content}".encode()
    (output / images.KERNEL).write_text(f"kernel of {content}")
    (output / images.VMLINUX).write_text(f"kernel of {content}")
    (output / images.ROOTFS).write_bytes(rootfs)
    (output / images.INITRAMFS).write_bytes(compress(rootfs))
    img.create(output / images.DISK, SIZE)
    names = (images.KERNEL, images.INITRAMFS, images.VMLINUX, images.ROOTFS)
    kernel, initramfs, vmlinux, packed = (describe_file(output / file) for file in names)
    return with_digest(
        Image(
            template=name,
            digest="",
            arch=ctx.arch,
            kernel=kernel,
            initramfs=initramfs,
            vmlinux=vmlinux,
            rootfs=packed,
            arguments="quiet",
            login="ann",
            ssh=SshServer.OPENSSH,
            cpus=1,
            memory=256 << 20,
            packages=(Package("libc6", "2.36-9", "00", ("LGPL-2.1+", "GPL-2")), Package("odd", "1:2+b1", "11")),
            disks=(ImageDisk("root", SIZE, describe_file(output / images.DISK)), ImageDisk("data", SIZE)),
            description="a test",
        )
    )
