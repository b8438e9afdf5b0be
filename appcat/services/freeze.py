"""Freezing running vms: a base is made of each, all at one instant, and they go on.

A receiver, a second QEMU that never runs, maps the future base's memory file; memory is copied to it while the guest
runs (pre-copy migration, one pass). When little is left the guest is stopped, the rest follows, its disks switch to
overlays, and it goes on: the stun is these last steps. The receiver then saves the devices' state and ends. What is
copied is the guest's memory as it was at the stop, so it does not matter whether the source itself began in a base.

Nobody may go on before everybody is stopped and saved, or the set would not be one cut: see ``frozen``.

Whoever dies in the middle leaves the note ``freezing`` in the vm's directory; the next one to change the vm, or the
keeper, acts on it (``services.changing``).
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from appcat.checks import Check, unchecked
from appcat.errors import AppcatError, WrongState
from appcat.guest.patience import held
from appcat.model.base import Base, check_fits
from appcat.model.run import Run
from appcat.model.vm import Vm
from appcat.qemu import argv, migration
from appcat.qemu.hotplug import plugged_in
from appcat.qemu.migration import NEARLY_DONE, Precopy
from appcat.qemu.monitor import CommandRefused, Monitor, MonitorSilent
from appcat.services import cables, cards, guests, keeping, overlays
from appcat.services.bases import bases, dig_holes, place_memory, sweep
from appcat.services.changing import changing, resume
from appcat.services.context import Context, now
from appcat.services.overlays import Overlay
from appcat.services.receiver import Receiver
from appcat.services.settle import adopt
from appcat.services.states import not_running, paused
from appcat.store import locks
from appcat.store.files import unlink

log = logging.getLogger(__name__)

UNPLUG_PATIENCE = 10.0
QUIET_PATIENCE = 30.0
PRECOPY_PATIENCE = 120.0
SWITCH_PATIENCE = 60.0
POLL = 0.005


@dataclass(frozen=True)
class Frozen:
    """A base, and what it cost: ``stun`` seconds in which the guest stood still, ``seconds`` until it was ready.

    ``use`` is a descriptor that keeps the base until it is closed; QEMUs that begin in it inherit it.
    """

    base: Base
    stun: float
    seconds: float
    use: int


@contextlib.contextmanager
def frozen(ctx: Context, names: Sequence[str]) -> Iterator[list[Frozen]]:
    """Bases of running vms, frozen at one instant; inside the block they are kept, afterwards their users keep them.

    Raises NotFound, Broken, Busy, WrongState, StateMismatch, InsufficientSpace before anything is touched; QemuError
    when it does not work out: the vms then go on as before.
    """
    with ExitStack() as stack:
        stack.callback(sweep, ctx)  # when it has been let go: should no clone have begun in it
        yield _freeze(ctx, names, stack)


def _freeze(ctx: Context, names: Sequence[str], stack: ExitStack) -> list[Frozen]:
    keeping.ensure(ctx)
    begun = time.monotonic()
    with ExitStack() as while_freezing:
        for name in sorted(names):  # always in one order: two sets must not wait for each other
            while_freezing.enter_context(changing(ctx, name, "clone"))
        sources = [while_freezing.enter_context(_source(ctx, name)) for name in names]
        for source in sources:
            source.prepare()
        stun = _copy(ctx, sources)
        with _quiet(ctx, names):
            stun += _cut(sources)
        made = []
        for source in sources:
            base = source.save()
            use = bases(ctx).use(base.id)
            stack.callback(os.close, use)
            made.append(Frozen(base, stun, time.monotonic() - begun, use))
    for source in sources:
        _set_clock(ctx, source.vm)
    return made


@contextlib.contextmanager
def _quiet(ctx: Context, names: Sequence[str]) -> Iterator[None]:
    """Nobody is in the middle of a word with the guests' agents: clones would hear the other half."""
    with ExitStack() as stack:
        for name in sorted(names):
            stack.enter_context(
                locks.hold(ctx.layout.vm(name).agent_lock, "clone", wait=QUIET_PATIENCE, check=ctx.check)
            )
        yield


def _copy(ctx: Context, sources: Sequence[Source]) -> float:
    """Copy memory while the guests run, until it is time to stop them; the seconds for which one stood still.

    The largest begins, the next joins in when no more is left of it than the next has: so all end at about one time.
    """
    stun = 0.0
    deadline = time.monotonic() + PRECOPY_PATIENCE
    under_way: list[Precopy] = []
    for source in sorted(sources, key=lambda source: -source.vm.memory):
        while any(copy.left() > source.vm.memory for copy in under_way) and time.monotonic() < deadline:
            ctx.check()
            time.sleep(POLL)
        stun = max(stun, source.precopy.start(source.receiver.address, SWITCH_PATIENCE))
        under_way.append(source.precopy)
    while time.monotonic() < deadline:
        left = [source.precopy.left() for source in sources]
        if max(left) <= NEARLY_DONE or min(left) == 0:
            break
        ctx.check()
        time.sleep(POLL)
    return stun


def _cut(sources: Sequence[Source]) -> float:
    """Stop all, finish all, and only then let all go on; the seconds for which they stood still."""
    stopped = time.monotonic()
    for source in sources:
        source.monitor.execute("stop")
    for source in sources:
        migration.await_status(source.monitor, "pre-switchover", SWITCH_PATIENCE)
    for source in sources:
        source.switch()
    for source in sources:
        source.monitor.execute("migrate-continue", state="pre-switchover")
    for source in sources:
        migration.await_status(source.monitor, "completed", SWITCH_PATIENCE)
    for source in sources:
        migration.go_on(source.monitor)
    return time.monotonic() - stopped


@dataclass
class Source:
    """One vm while it is being frozen; its ``op.lock`` is held. ``vm`` is as it is written down at the moment."""

    ctx: Context
    vm: Vm
    run: Run
    monitor: Monitor
    receiver: Receiver
    laid: tuple[Overlay, ...] = ()
    switched: bool = False

    def __post_init__(self) -> None:
        self.before = self.vm
        self.precopy = Precopy(self.monitor)

    def prepare(self) -> None:
        """All that can be done, and refused, before the guest is stopped."""
        self.ctx.progress(f"freezing {self.vm.name}", 0, 0)
        overlays.shorten(self.ctx, self.vm, self.monitor)
        self.ctx.layout.vm(self.vm.name).freezing.touch(mode=0o600)
        self.receiver.start()
        unplug_reclaim(self.monitor, self.ctx.check)
        self.vm, self.laid = overlays.prepare(self.ctx, self.vm, self.monitor)
        self.receiver.listen()

    def switch(self) -> None:
        """The disks, while the guest is stopped and its memory copied."""
        overlays.switch(self.monitor, self.laid)
        self.switched = True

    def save(self) -> Base:
        """Publish the base; the guest runs again already."""
        self.receiver.save()
        self.receiver.end()
        base = self._base()
        bases(self.ctx).publish(base)
        below = bases(self.ctx).load(self.run.base) if self.run.base else None
        if below is not None:  # reading all of a clone's memory has filled the holes of its own base
            dig_holes(Path(below.memory))
        return base

    def clean_up(self) -> None:
        """Whatever happened: the guest goes on, with its disks where ``vm.json`` says, and no receiver is left."""
        self.receiver.end()
        if not self.switched:
            overlays.revert(self.ctx, self.before, self.laid, self.monitor)
        resume(self.monitor, self.run)
        unlink(self.ctx.layout.vm(self.vm.name).freezing)

    def _base(self) -> Base:
        layered = [dataclasses.replace(laid.disk, file=laid.layer.name) for laid in self.laid]
        return Base(
            id=self.receiver.identifier,
            created=now(),
            vm=dataclasses.replace(self.vm, disks=tuple(layered)),
            qemu_version=self.ctx.host.qemu.version,
            accelerator=str(self.ctx.host.accelerator),
            cpu=self.run.cpu,
            memory=str(self.receiver.memory),
            memory_used=dig_holes(self.receiver.memory),
            plugged=self.receiver.plugged,
            backend=self.receiver.backend,
        )


@contextlib.contextmanager
def _source(ctx: Context, name: str) -> Iterator[Source]:
    vm = ctx.store.load(name)
    run = adopt(ctx, name)
    if run is None:
        raise not_running(name, "stopped")
    processor = argv.cpu_model(vm.machine.arch, ctx.host.accelerator)
    check_fits(run, name, ctx.host, processor, cables.backend_here(ctx, vm.networks))
    with Monitor(ctx.layout.runtime(vm.uuid).monitor) as monitor:
        # Halted, it could not let go of its balloon; and QEMU moves a halted machine's state only once.
        if not monitor.execute("query-status")["running"]:
            raise paused(name)
        cards.complete(ctx, vm, monitor)
        with bases(ctx).making() as (identifier, paths):
            memory = place_memory(ctx, paths, vm.memory)
            receiver = Receiver(ctx, vm, identifier, paths, memory, plugged_disks(monitor, vm))
            source = Source(ctx, vm, run, monitor, receiver)
            try:
                yield source
            finally:
                with held():  # an interrupt waits for the end of this: else the keeper would have to put it right
                    source.clean_up()


def plugged_disks(monitor: Monitor, vm: Vm) -> dict[str, str]:
    """The root port of each disk that was plugged in while the vm ran."""
    names = {f"{argv.disk_id(disk.name)}-device": disk.name for disk in vm.disks}
    return {names[device]: port for device, port in plugged_in(monitor).items() if device in names}


def unplug_reclaim(monitor: Monitor, check: Check = unchecked) -> None:
    """Take the balloon out, if there is one; raises WrongState when the guest does not let it go, Cancelled."""
    try:
        monitor.execute("device_del", id=argv.BALLOON)
    except CommandRefused as error:
        if "not found" in error.description.lower():
            return
        raise
    try:
        while True:
            event = monitor.next_event(UNPLUG_PATIENCE, check)
            if event["event"] == "DEVICE_DELETED" and event["data"].get("device") == argv.BALLOON:
                return
    except MonitorSilent as error:
        raise WrongState(
            "the guest is not up yet, or hangs: it does not answer to its hardware",
            hint="wait until it has booted (appcat vm wait), then try again",
            code="guest-not-ready",
        ) from error


def _set_clock(ctx: Context, vm: Vm) -> None:
    """The guest's clock stood still during the stun."""
    try:
        guests.set_clock(ctx, vm)
    except AppcatError as error:
        log.warning("the clock of %s could not be corrected: %s", vm.name, error)
