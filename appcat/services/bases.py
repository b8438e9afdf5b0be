"""What becomes of bases: room for their memory, and an end for those that nobody uses."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from pathlib import Path

import psutil

from appcat import command
from appcat.errors import AppcatError, CommandError, InsufficientSpace, MissingTool
from appcat.model.base import Base
from appcat.model.size import GIB, format_size, parse_size
from appcat.qemu import img, process
from appcat.services import cables, config
from appcat.services.context import Context
from appcat.store import locks
from appcat.store.bases import BaseStore
from appcat.store.files import claim_runtime_directory, remove_tree, unlink
from appcat.store.layers import LayerStore
from appcat.store.layout import BasePaths

log = logging.getLogger(__name__)

# Of the host's memory: what bases may keep there unless the home's configuration says otherwise.
DEFAULT_SHARE = 4
# Left alone on whatever file system a base goes to.
RESERVE = GIB // 4


def bases(ctx: Context) -> BaseStore:
    """This home's bases."""
    return BaseStore(ctx.layout)


def layers(ctx: Context) -> LayerStore:
    """This home's frozen disks."""
    return LayerStore(ctx.layout.layers)


def place_memory(ctx: Context, paths: BasePaths, size: int) -> Path:
    """An empty file for ``size`` bytes of guest memory, where there is room for all of it: in memory within the budget,
    else on disk.

    Raises InsufficientSpace when neither has room; nothing is left of the attempt.
    """
    refusals = []
    if paths.memory_backed:
        if (
            refusal := _unsafe(paths.memory_backed.parent)
            or _over_budget(ctx, size)
            or _make(paths.memory_backed, size)
        ):
            refusals.append(f"{paths.memory_backed.parent}: {refusal}")
        else:
            return paths.memory_backed
    if refusal := _make(paths.memory_on_disk, size):
        refusals.append(f"{paths.root.parent}: {refusal}")
        raise InsufficientSpace(
            f"there is no room for {format_size(size)} of frozen memory",
            hint="free some space, end instant clones, or raise the budget: appcat config set frozen-memory SIZE",
            details="\n".join(refusals),
        )
    return paths.memory_on_disk


def budget(ctx: Context) -> int:
    """Bytes of frozen memory that may be kept in memory; what goes beyond is kept on disk."""
    default = psutil.virtual_memory().total // DEFAULT_SHARE
    return config.value_of(ctx, "frozen-memory", parse_size, default)


def memory_taken(base: Base) -> int:
    """The bytes that a base's memory takes now: holes fill when clones touch what their source never did."""
    return img.allocated(Path(base.memory))


def _unsafe(directory: Path) -> str:
    """Make the directory below one that everybody may write to; why it cannot be trusted, or nothing."""
    try:
        claim_runtime_directory(directory)
    except AppcatError as error:
        return error.message
    return ""


def _over_budget(ctx: Context, size: int) -> str:
    in_memory = [base for base in bases(ctx).all() if Path(base.memory).parent == ctx.settings.memory]
    taken = sum(memory_taken(base) for base in in_memory)
    if taken + size > budget(ctx):
        return f"the budget is {format_size(budget(ctx))}, and bases take {format_size(taken)} of it"
    if psutil.virtual_memory().available < size + RESERVE:
        return "the host's memory is short"
    return ""


def _make(path: Path, size: int) -> str:
    """Make the file; what keeps it from being made, or nothing."""
    try:
        if shutil.disk_usage(path.parent).free < size + RESERVE:
            return "the file system is full"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.truncate(descriptor, size)
        finally:
            os.close(descriptor)
    except OSError as error:
        unlink(path)
        return str(error.strerror)
    return ""


def dig_holes(path: Path) -> int:
    """Give back what of a memory file is zeros; the bytes it then takes. Nobody writes to it any more.

    Whoever maps it sees the same zeros as before, so clones may live.
    """
    with contextlib.suppress(MissingTool, CommandError):  # it only takes more room then
        command.run(["fallocate", "--dig-holes", path])
    return img.allocated(path)


def is_making(ctx: Context) -> bool:
    """Whether a base is being made, or was left half made."""
    return any(not ctx.layout.base(identifier).spec.exists() for identifier in bases(ctx).ids())


def sweep(ctx: Context) -> None:
    """End what makers of bases and of vms left when they died, and remove bases that nobody uses; warm ones stay.

    Cheap when there is nothing to do: the keeper calls it at every look.
    """
    store = bases(ctx)
    removed = ctx.store.sweep()  # a half-made clone has disks that stand on layers
    removed |= store.sweep_removed()
    for identifier in store.ids():
        try:
            removed |= _sweep_one(ctx, store, identifier)
        except AppcatError as error:
            log.warning("base %s cannot be swept: %s", identifier, error)
    if removed:
        sweep_layers(ctx)


def _sweep_one(ctx: Context, store: BaseStore, identifier: str) -> bool:
    # In this order: a base that is completed in between is never taken for one whose maker died.
    if store.is_being_made(identifier):
        return False
    found = store.load(identifier)
    if found is not None:
        return not found.warm and store.remove_if_unused(identifier)
    if not ctx.layout.base(identifier).spec.exists():
        _end_helper(ctx, identifier)
    return store.remove_if_unused(identifier)  # damaged, or robbed of its memory: those that began in it go on


def _end_helper(ctx: Context, identifier: str) -> None:
    """Kill the QEMU that helped to make a base whose maker is gone, and sweep its sockets."""
    lock = ctx.layout.base(identifier).use_lock
    pid = process.find_holder(lock)
    if pid is not None:
        log.info("ending QEMU %d, left by who made the base %s", pid, identifier)
        process.kill(pid, lambda pid: process.holds(pid, lock))
    remove_tree(ctx.layout.runtime(identifier).root)
    cables.forget(ctx, identifier)


def sweep_layers(ctx: Context) -> None:
    """Remove frozen disks that neither a vm nor a base stands on."""
    if not ctx.layout.layers.is_dir():
        return
    with locks.hold(ctx.layout.home_lock, "sweep layers"):
        disks = [*ctx.store.disk_files(), *bases(ctx).disk_files()]
        kept = [disk.file for found in bases(ctx).all() for disk in found.vm.disks]
        layers(ctx).sweep(disks, kept)
