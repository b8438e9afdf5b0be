"""Linked and full clones: of a vm's disks, whether it runs or not. They are powered off."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from appcat.errors import AppcatError, Cancelled
from appcat.model.network import Joining
from appcat.model.vm import CloneKind, Vm
from appcat.qemu import img
from appcat.qemu.agent import Agent
from appcat.qemu.monitor import Monitor
from appcat.services import overlays
from appcat.services.admission import check_space
from appcat.services.bases import layers, sweep_layers
from appcat.services.changing import changing
from appcat.services.clone_networks import inform_of, places
from appcat.services.context import Context
from appcat.services.disks import settle_disks
from appcat.services.keys import user_key
from appcat.services.observe import is_alive
from appcat.services.offspring import Outcome, add, plan
from appcat.services.settle import settle
from appcat.services.spots import Spots
from appcat.store import locks
from appcat.store.files import make_private_directory

log = logging.getLogger(__name__)

FREEZE_PATIENCE = 10.0


def clone_disks(
    ctx: Context, source: Vm, names: Sequence[str], kind: CloneKind, networks: Sequence[Joining] | None = None
) -> tuple[Outcome, ...]:
    """Clones called ``names``, each whole or not at all, on ``networks`` or those of the source.

    Raises InsufficientSpace, Busy before anything is made.
    """
    check_space(ctx.layout.home, sum(_size(ctx, source, kind) for _ in names))
    with frozen_disks(ctx, source.name, kind) as (vm, files):
        outcomes = tuple(_on_disk(ctx, vm, files, name, kind, networks) for name in names)
    sweep_layers(ctx)
    inform_of(ctx, outcomes)
    return outcomes


def _on_disk(
    ctx: Context, source: Vm, files: Sequence[Path], name: str, kind: CloneKind, networks: Sequence[Joining] | None
) -> Outcome:
    """A clone that is powered off."""
    begun = time.monotonic()
    ctx.progress(f"cloning {source.name} to {name}", 0, 0)
    try:
        user_key(ctx)
        make_private_directory(ctx.layout.vms)
        with locks.hold(ctx.layout.home_lock, f"clone {source.name}"):
            vm = plan(source, name, kind, Spots(ctx), places(ctx, source, name, networks))
            add(ctx, vm, files, kind)
        ctx.store.sync(name)
        return Outcome(name, vm, time.monotonic() - begun)
    except Cancelled:
        raise
    except AppcatError as error:
        return Outcome(name, error=error)


@contextlib.contextmanager
def frozen_disks(ctx: Context, name: str, kind: CloneKind) -> Iterator[tuple[Vm, list[Path]]]:
    """A vm whose disks do not change in the block, and the files with their contents."""
    with changing(ctx, name, "clone") as vm:
        if is_alive(ctx, name):
            yield vm, freeze_disks(ctx, vm)
            return
        settle(ctx, name)
        settle_disks(ctx, vm)
        if kind is CloneKind.FULL:
            yield vm, [ctx.layout.vm(name).disks / disk.file for disk in vm.disks]
        else:
            vm, below = overlays.freeze_stopped(ctx, vm)
            yield vm, list(below)


def freeze_disks(ctx: Context, vm: Vm) -> list[Path]:
    """Freeze the disks of a running vm, its file systems quiet for the moment if its agent can do that; the layers."""
    with Monitor(ctx.layout.runtime(vm.uuid).monitor) as monitor:
        overlays.shorten(ctx, vm, monitor)
        changed, laid = overlays.prepare(ctx, vm, monitor)
        try:
            _with_quiet_file_systems(ctx, vm, lambda: overlays.switch(monitor, laid))
        except BaseException:
            overlays.revert(ctx, vm, laid, monitor)
            raise
    log.info("%s goes on with %s", vm.name, [disk.file for disk in changed.disks])
    return [overlay.layer for overlay in laid]


def _with_quiet_file_systems(ctx: Context, vm: Vm, act: Callable[[], None]) -> None:
    """A guest without a working agent is taken as a power cut would leave it."""
    paths = ctx.layout.vm(vm.name)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locks.hold(paths.agent_lock, "freeze", wait=FREEZE_PATIENCE, check=ctx.check))
            agent = stack.enter_context(Agent(ctx.layout.runtime(vm.uuid).agent, FREEZE_PATIENCE, ctx.check))
            agent.execute("guest-fsfreeze-freeze", FREEZE_PATIENCE)
            stack.callback(_thaw_file_systems, agent)
        except Cancelled:
            raise
        except AppcatError as error:
            ctx.progress(f"{vm.name} cannot quiet its file systems ({error.message}): taken as after a power cut", 0, 0)
        act()


def _thaw_file_systems(agent: Agent) -> None:
    with contextlib.suppress(AppcatError):
        agent.execute("guest-fsfreeze-thaw", FREEZE_PATIENCE)


def _size(ctx: Context, source: Vm, kind: CloneKind) -> int:
    if kind is not CloneKind.FULL:
        return 0
    disks = (ctx.layout.vm(source.name).disks / disk.file for disk in source.disks)
    return sum(img.allocated(file) for disk in disks for file in layers(ctx).chain(disk))
