"""An image with a root disk: packages are installed in the builder machine, then the disk is compressed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from appcat.build import compiler, machine
from appcat.build.assembly import builder_root, files_on_disk, first_steps, kernel_of
from appcat.build.cpio import archive as cpio
from appcat.build.deb import unpack
from appcat.build.licences import Copyrights
from appcat.build.packages import Apt, Candidate
from appcat.build.packing import describe, pack
from appcat.build.parcel import write_parcel
from appcat.build.workshop import Workshop, fetching
from appcat.errors import InsufficientSpace
from appcat.model.host import Host
from appcat.model.image import Image
from appcat.model.size import GIB, format_size
from appcat.model.vm import ROOT_DISK
from appcat.qemu import img
from appcat.store.files import make_private_directory
from appcat.store.images import DISK, VMLINUX, StoredImage

# For packages as they come, as they are unpacked, and the disk before and after it was compressed.
SPACE = 3 * GIB
# What is in the first file system and in the builder machine, beside the kernel.
_PROGRAMS = ("busybox-static", "e2fsprogs")


@dataclass(frozen=True)
class _Plan:
    """Packages: ``tools`` are unpacked here, ``essential`` and ``rest`` installed, ``content`` is all of the image."""

    tools: Sequence[Candidate]
    essential: Sequence[Candidate]
    rest: Sequence[Candidate]
    content: Sequence[Candidate]


def build(shop: Workshop, host: Callable[[], Host], base: StoredImage | None, found: StoredImage | None) -> Image:
    """Make the image's files in the workshop's output, on top of ``base``; ``found`` when it would be the same.

    Raises BuildError, MissingTool, InsufficientSpace, Unavailable, CommandError.
    """
    _check_space(shop.staging)
    source, root = shop.source, shop.staging / "root"
    with fetching(shop) as apt:
        plan = _plan(apt, shop, base)
        if found and _is_same(found.image, plan):
            return found.image
        tools = apt.fetch(plan.tools, shop.report("fetching tools"))
        packages = apt.fetch([*plan.essential, *plan.rest], shop.report("fetching packages"))
        for path in tools:
            unpack(path, root, shop.check)
        parcel = shop.staging / "parcel"
        make_private_directory(parcel)
        files = files_on_disk(source, root, shop.compile(root), apt.mirrors())
        split = len(plan.essential)
        archives = (packages[:split], packages[split:])
        write_parcel(parcel, source, archives, files, shop.report("unpacking packages"), shop.check)
    copyrights = _copyrights(root, parcel)
    start = first_steps(root, (source.common / "start").read_bytes(), source.kernel)
    pack(kernel_of(root).read_bytes(), cpio(start.nodes), shop.output, shop.check)
    _fill_disk(shop, host(), root, parcel, base)
    known = {package.name: package.licenses for package in base.image.packages} if base else {}
    contents = [item.package(copyrights.of(item.name) or known.get(item.name, ())) for item in plan.content]
    return describe(source, shop.output, contents)


def _copyrights(root: Path, parcel: Path) -> Copyrights:
    """From the parcel, where nothing has to be decompressed."""
    found = Copyrights()
    found.read_directory(root)
    for archive in parcel.glob("*/*.deb"):
        found.read_archive(archive)
    return found


def _plan(apt: Apt, shop: Workshop, base: StoredImage | None) -> _Plan:
    """With a base, only what is not on it already is installed."""
    kernel = apt.closure([shop.source.kernel.package, *_PROGRAMS])
    tools = [*kernel, *apt.candidates(compiler.PACKAGES).values()]
    installation = apt.installation(shop.source.recipe.install)
    installed = (*installation.essential, *installation.rest)
    content = list({item.name: item for item in (*tools, *installed)}.values())
    if base is None:
        return _Plan(tools, installation.essential, installation.rest, content)
    there = {(package.name, package.version) for package in base.image.packages}
    only_tools = {item.name for item in tools}
    new = [item for item in installed if (item.name, item.version) not in there or item.name in only_tools]
    return _Plan(tools, [], new, content)


def _is_same(image: Image, plan: _Plan) -> bool:
    """Whether an image of the same recipe would be no other: all comes from these packages."""
    there = {(package.name, package.sha256) for package in image.packages}
    return {(item.name, item.sha256) for item in plan.content} == there


def _fill_disk(shop: Workshop, host: Host, root: Path, parcel: Path, base: StoredImage | None) -> None:
    source, disk, initramfs = shop.source, shop.staging / "disk.qcow2", shop.staging / "builder"
    tree = builder_root(root, (source.common / "builder").read_bytes(), source.kernel, source.arch)
    initramfs.write_bytes(cpio(tree.nodes))
    img.create(disk, source.recipe.size, backing=base.disk(ROOT_DISK) if base else None)
    arguments = " ".join(source.kernel.arguments)
    machine.run(
        machine.Work(shop.output / VMLINUX, initramfs, disk, parcel, arguments), host, shop.progress, shop.check
    )
    shutil.rmtree(parcel)
    shop.progress("compressing", 0, 1)
    img.compress(disk, shop.output / DISK, shop.check)


def _check_space(directory: Path) -> None:
    free = shutil.disk_usage(directory).free
    if free < SPACE:
        raise InsufficientSpace(
            f"a build takes {format_size(SPACE)}; {directory} has {format_size(free)}",
            hint="free some space, or set APPCAT_CACHE to where there is some",
        )
