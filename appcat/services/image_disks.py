"""The disks that a vm has because of its image: its root, and data disks that its template wants."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from appcat.errors import InvalidInput
from appcat.model.image import Image
from appcat.model.size import format_size
from appcat.model.vm import DISK_SLOTS, ROOT_DISK, ROOT_SLOT, Disk, check_disk_name, free_slot
from appcat.qemu import img
from appcat.services.bases import layers
from appcat.services.context import Context
from appcat.store.images import StoredImage

DISK_SUFFIX = ".qcow2"


def check_distinct_disks(asked: Sequence[tuple[str, int]]) -> None:
    """Raise InvalidInput when a name is none, or given twice; nothing has to be known of the image."""
    names = [check_disk_name(name) for name, _ in asked]
    for name in names:
        if names.count(name) > 1:
            raise InvalidInput(f"two disks are called {name}", hint="give each a name: --disk NAME=SIZE")
    if len(names) > DISK_SLOTS:
        raise InvalidInput(f"a vm has room for {DISK_SLOTS} disks", hint="give it fewer")


def plan_disks(asked: Sequence[tuple[str, int]], image: Image) -> tuple[Disk, ...]:
    """The disks of a new vm: the image's, larger where that was asked for, and those that were asked for besides.

    Raises InvalidInput for one that cannot be.
    """
    sizes = {disk.name: disk.size for disk in image.disks}
    for name, size in asked:
        if name == ROOT_DISK and image.root is None:
            raise InvalidInput(
                f"template {image.template} has its root in memory: no disk can be called {ROOT_DISK}",
                hint="give the disk another name",
                code="invalid-name",
            )
        if size < sizes.get(name, 0):
            raise InvalidInput(
                f"the disk {name} of template {image.template} has {format_size(sizes[name])}; it can only be larger",
                hint="give a larger size, or none",
                code="invalid-size",
            )
        sizes[name] = size
    disks: tuple[Disk, ...] = ()
    for name, size in sizes.items():
        slot = ROOT_SLOT if name == ROOT_DISK else free_slot((*disks, *_reserved(image)))
        disks += (Disk(name, name + DISK_SUFFIX, size, slot),)
    return disks


def _reserved(image: Image) -> tuple[Disk, ...]:
    return (Disk(ROOT_DISK, "", 0, ROOT_SLOT),) if image.root else ()


def image_layers(ctx: Context, stored: StoredImage) -> dict[str, Path]:
    """By name, what disks of a new vm stand on: the image's files as layers of this home, so that they stay as long as
    something stands on them. The caller holds the home's allocation lock. Raises Unavailable, InsufficientSpace.
    """
    files = {disk.name: stored.disk(disk.name) for disk in stored.image.disks}
    return {
        name: layers(ctx).adopt(file, f"image-{stored.image.digest[:16]}-{name}")
        for name, file in files.items()
        if file
    }


def make_disks(disks: Sequence[Disk], directory: Path, below: Mapping[str, Path]) -> None:
    """The files of new disks; raises MissingTool, CommandError, InsufficientSpace."""
    for disk in disks:
        img.create(directory / disk.file, disk.size, backing=below.get(disk.name))
