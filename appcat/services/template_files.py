"""``template create``, ``export``, ``import`` and ``vm export``: images that come from a vm, or travel in a file.

The file is that of ``build.bundle``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from appcat.build.bundle import complete, extract, read_manifest, write_bundle
from appcat.errors import AlreadyExists, Broken, InvalidInput, NotFound, from_os_error
from appcat.model.event import EventKind
from appcat.model.image import Image, ImageDisk, image_to_json, with_digest
from appcat.model.name import check_name
from appcat.model.vm import CloneKind, Vm
from appcat.qemu import img
from appcat.services import machines
from appcat.services.admission import check_space
from appcat.services.clone_disks import frozen_disks
from appcat.services.context import Context
from appcat.services.events import record
from appcat.services.operations import tracked
from appcat.services.templates import check_free, ensure, own_templates
from appcat.store import locks
from appcat.store.files import make_private_directory, remove_tree
from appcat.store.images import MANIFEST, StoredImage, describe_file, read_image, verify_image
from appcat.store.templates import IMAGE


def _of_vm(ctx: Context, vm: str, name: str) -> tuple[str, ...]:
    ctx.store.load(vm)
    check_new(ctx, name)
    return (vm,)


def check_new(ctx: Context, name: str) -> None:
    """Refuse a name that a template has; raises AlreadyExists, InvalidInput."""
    check_free(ctx, name)
    if name in own_templates(ctx).names():
        raise AlreadyExists(
            f"there is a template {name} already",
            hint=f"choose another name, or: appcat template delete {name}",
            code="template-exists",
        )


def _told(stored: StoredImage) -> dict[str, object]:
    return {"template": stored.image.template, "image": stored.image.digest}


@tracked("create_template", _of_vm, _told)
def create(ctx: Context, vm: str, name: str) -> StoredImage:
    """Make a template of a vm: its disks as they are now, running or not, with the image that it started from.

    Raises NotFound, AlreadyExists, InvalidInput, Busy, Broken, InsufficientSpace.
    """
    with _adding(ctx, name) as directory:
        image = _copy_vm(ctx, vm, name, directory)
    record(ctx, EventKind.TEMPLATE_CREATED, template=name, image=image.digest, **{"from": vm})
    return own_templates(ctx).image(name)


@tracked("export_vm", lambda ctx, vm, target: (ctx.store.load(vm).name,), lambda size: {"size": size})
def export_vm(ctx: Context, vm: str, target: Path) -> int:
    """Write a vm into the new file ``target``, as a template called as the vm is; the bytes written.

    Raises NotFound, AlreadyExists, Busy, Broken, InsufficientSpace, Unavailable.
    """
    _check_target(target)
    staging = Path(tempfile.mkdtemp(prefix=".appcat-export-", dir=_directory(target)))
    try:
        _copy_vm(ctx, vm, vm, staging)
        return _write(ctx, read_image(staging), target)
    finally:
        remove_tree(staging)


def export_template(ctx: Context, name: str, target: Path) -> int:
    """Write a template's image into the new file ``target``, building it first when it is not there; the bytes written.

    Raises NotFound, AlreadyExists, InsufficientSpace, Unavailable, and what ``build`` raises.
    """
    _check_target(target)
    return _write(ctx, ensure(ctx, name), target)


def import_template(ctx: Context, source: Path, name: str = "") -> StoredImage:
    """Take over the template in the file ``source``, under ``name`` or the one it has; every byte is checked.

    Raises NotFound, AlreadyExists, InvalidInput for a file that is not what it should be, InsufficientSpace.
    """
    try:
        with source.open("rb") as file:
            return _import(ctx, file, source, name)
    except FileNotFoundError as error:
        raise NotFound(f"there is no file {source}", hint="give a file that 'template export' wrote") from error
    except (tarfile.TarError, EOFError) as error:
        raise _damaged(source, str(error)) from error
    except Broken as error:
        raise _damaged(source, error.message) from error
    except OSError as error:
        raise from_os_error(error, f"reading {source}") from error


def _import(ctx: Context, file: IO[bytes], source: Path, name: str) -> StoredImage:
    with tarfile.open(fileobj=file, mode="r|") as tar:
        image = read_manifest(tar)
        if image.arch is not ctx.arch:
            raise InvalidInput(f"{source} is for {image.arch}, this host is {ctx.arch}", hint="build it here instead")
        named = with_digest(dataclasses.replace(image, template=name or check_name(image.template)))
        check_new(ctx, named.template)
        check_space(ctx.layout.home, named.compressed_size)
        with _adding(ctx, named.template) as directory:
            extract(tar, image, directory, ctx.check)
            complete(directory, named)
    record(ctx, EventKind.TEMPLATE_CREATED, template=named.template, image=named.digest)
    return own_templates(ctx).image(named.template)


@contextmanager
def _adding(ctx: Context, name: str) -> Iterator[Path]:
    """The directory of an image that becomes a template, unless somebody was faster."""
    with own_templates(ctx).adding(name) as new:
        directory = new / IMAGE
        make_private_directory(directory)
        yield directory
        with locks.hold(ctx.layout.home_lock, f"add template {name}", check=ctx.check):
            check_new(ctx, name)


def _copy_vm(ctx: Context, name: str, template: str, directory: Path) -> Image:
    """The image of a vm as it is now, in ``directory``."""
    with frozen_disks(ctx, name, CloneKind.FULL) as (vm, files):
        stored = machines.image_of(ctx, vm)
        check_space(directory, sum(img.allocated(file) for file in files))
        for file in (stored.kernel, stored.initramfs, stored.vmlinux, stored.rootfs):
            _link_or_copy(file, directory / file.name)
        disks = tuple(_copy_disks(ctx, vm, files, directory))
    image = with_digest(
        dataclasses.replace(
            stored.image,
            template=template,
            disks=disks,
            cpus=vm.cpus,
            memory=vm.memory,
            description=f"made from vm {name}",
        )
    )
    (directory / MANIFEST).write_text(image_to_json(image))
    return image


def _copy_disks(ctx: Context, vm: Vm, files: list[Path], directory: Path) -> Iterator[ImageDisk]:
    for disk, file in zip(vm.disks, files, strict=True):
        ctx.progress(f"copying disk {disk.name} of {vm.name}", 0, 0)
        target = directory / f"{disk.name}.qcow2"
        img.compress(file, target, ctx.check)
        yield ImageDisk(disk.name, disk.size, describe_file(target))


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _check_target(target: Path) -> None:
    if target.exists():
        raise AlreadyExists(f"{target} is there already", hint="give another name: nothing is written over")
    if not _directory(target).is_dir():
        raise NotFound(f"there is no directory {_directory(target)}", hint="make it first")


def _directory(target: Path) -> Path:
    return target.absolute().parent


def _write(ctx: Context, stored: StoredImage, target: Path) -> int:
    """The file, whole or not at all."""
    verify_image(stored)
    new = target.with_name(f".{target.name}.{os.getpid()}.new")
    try:
        with new.open("xb") as file:
            write_bundle(stored, file, lambda part: ctx.progress(f"writing {part}", 0, 0), ctx.check)
        os.link(new, target)  # fails where somebody else was faster
        return target.stat().st_size
    except FileExistsError as error:
        raise AlreadyExists(f"{target} is there already", hint="give another name: nothing is written over") from error
    except OSError as error:
        raise from_os_error(error, f"writing {target}") from error
    finally:
        with contextlib.suppress(OSError):
            new.unlink()


def _damaged(source: Path, why: str) -> InvalidInput:
    return InvalidInput(
        f"{source} is not a template's file, or damaged: {why}",
        hint="export it again: appcat template export",
        code="invalid-template-file",
    )
