"""``start``: from a vm on disk to a QEMU that runs it, and to a guest that answers."""

from __future__ import annotations

import dataclasses
import logging
import os
import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from appcat.errors import AppcatError, Cancelled, DeadlineExceeded, PortInUse, QemuError
from appcat.model.event import EventKind
from appcat.model.machine import Purpose
from appcat.model.port import PortForward
from appcat.model.run import Exit, ExitCause
from appcat.model.vm import TemplateRef, Vm
from appcat.qemu import argv
from appcat.qemu.agent import Agent
from appcat.qemu.monitor import Monitor
from appcat.services import admission, cables, cards, keeping, machines
from appcat.services.addresses import internet_of
from appcat.services.changing import changing
from appcat.services.context import Context, now
from appcat.services.disks import settle_disks
from appcat.services.events import record, record_ready
from appcat.services.guests import identity_document
from appcat.services.neighbours import boot_statements, catch_up, note_told
from appcat.services.observe import ended_by, qemu_last_words, qemu_output
from appcat.services.operations import existing, tracked
from appcat.services.patience import READY_DEADLINE
from appcat.services.settle import adopt, settle
from appcat.services.spots import ATTEMPTS, moved, settled
from appcat.services.ssh_config import write_ssh_config
from appcat.store import locks
from appcat.store.files import remove_tree, write_atomic
from appcat.store.images import StoredImage

log = logging.getLogger(__name__)

_FORWARD_FAILED = re.compile(r"host forwarding rule '(?P<protocol>tcp|udp):(?P<address>[0-9.]*):(?P<port>\d+)-")


@dataclass(frozen=True)
class Started:
    """What ``start`` did: ``already`` when the vm was running before."""

    vm: Vm
    already: bool


class EndedEarly(QemuError):
    """QEMU ended before its guest answered."""

    code = "ended-early"


@tracked("start", existing, lambda started: {"already": started.already})
def start(ctx: Context, name: str, *, ready_within: float | None = READY_DEADLINE) -> Started:
    """Start a vm and wait until its guest agent answers, ``ready_within`` seconds at most; None does not wait.

    A vm that runs already is left alone, and waited for all the same; one that was on its way down is started anew.
    Raises NotFound, Busy, Broken, PortInUse, InsufficientMemory, MissingTool, QemuError; DeadlineExceeded leaves the
    vm running.
    """
    started = _ensure_running(ctx, name)
    if ready_within is None:
        return started
    try:
        wait_ready(ctx, started.vm, ready_within)
    except EndedEarly:
        if not started.already:
            raise
        started = _ensure_running(ctx, name)
        wait_ready(ctx, started.vm, ready_within)
    if started.vm.networks:  # who joined them while it booted
        catch_up(ctx, name)
    return started


def _ensure_running(ctx: Context, name: str) -> Started:
    with changing(ctx, name, "start") as vm:
        already = adopt(ctx, name) is not None
        if not already:
            settle(ctx, name)
            vm = _launch(ctx, vm)
        elif vm.networks:
            _complete_networks(ctx, vm)
    keeping.ensure(ctx)
    return Started(vm, already)


def _complete_networks(ctx: Context, vm: Vm) -> None:
    """Finish what a killed command left undone; a QEMU that hangs is not this verb's business."""
    try:
        with Monitor(ctx.layout.runtime(vm.uuid).monitor) as monitor:
            finished = cards.complete(ctx, vm, monitor)
        if finished:
            catch_up(ctx, vm.name)
    except Cancelled:
        raise
    except AppcatError as error:
        ctx.progress(f"{vm.name} may not be on all its networks: {error.message}", 0, 0)


def wait_ready(ctx: Context, vm: Vm, timeout: float = READY_DEADLINE) -> None:
    """Wait until the guest agent of a running vm answers.

    Raises DeadlineExceeded after ``timeout`` seconds, EndedEarly when QEMU ends before, Cancelled.
    """
    ctx.progress(f"waiting for the guest of {vm.name}", 0, 0)
    paths = ctx.layout.vm(vm.name)
    try:
        with (
            locks.hold(paths.agent_lock, "wait for the guest", wait=timeout, check=ctx.check),
            Agent(ctx.layout.runtime(vm.uuid).agent, timeout, ctx.check),
        ):
            record_ready(ctx, vm)
    except Cancelled:
        raise
    except DeadlineExceeded as error:
        error.details = console_tail(paths.console_log)
        raise
    except AppcatError as error:
        # A QEMU that ends closes its sockets a moment before its lock.
        if not ended_by(ctx, vm.name, time.monotonic() + 2.0):
            raise
        words = qemu_last_words(ctx, vm.name)
        raise EndedEarly(
            f"the QEMU of {vm.name} ended while its guest was starting" + (f": {words}" if words else ""),
            hint=f"see 'appcat vm show {vm.name}' and {paths.console_log}",
            details=console_tail(paths.console_log),
        ) from error


def console_tail(path: Path, lines: int = 15) -> str:
    """The last lines of a console log."""
    try:
        return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    except OSError:
        return ""


def _launch(ctx: Context, vm: Vm) -> Vm:
    admission.check_memory(ctx, vm.memory)
    admission.check_space(ctx.layout.home)
    vm = settled(ctx, vm)
    admission.check_ports(ctx, vm)
    settle_disks(ctx, vm)
    stored = machines.image_of(ctx, vm)
    if stored.image.digest != vm.template.image:
        vm = dataclasses.replace(vm, template=TemplateRef(vm.template.name, stored.image.digest))
        ctx.store.save(vm)
    refused: set[admission.Claim] = set()
    for _ in range(ATTEMPTS):
        try:
            _run_qemu(ctx, vm, stored, admission.places_now(vm, refused))
            return vm
        except _PlaceTakenError as taken:
            if taken.claim == admission.claim_of(vm.ssh_forward):
                vm = moved(ctx, vm)
            refused.add(taken.claim)
            admission.check_ports(ctx, vm)
    raise PortInUse(f"no host port could be had for {vm.name}", hint="see which ports are in use: ss -ltn")


class _PlaceTakenError(Exception):
    """Somebody took a host port between our look and QEMU's claim."""

    def __init__(self, claim: admission.Claim) -> None:
        super().__init__(claim)
        self.claim = claim


def _run_qemu(ctx: Context, vm: Vm, stored: StoredImage, places: Sequence[PortForward]) -> None:
    """Spawn QEMU and wait for its monitor; on failure nothing of it is left but its log."""
    ctx.progress(f"starting {vm.name}", 0, 0)
    runtime = ctx.layout.runtime(vm.uuid)
    machines.claim_runtime(runtime)
    try:
        _prepare(ctx, vm, stored)
        child = _spawn(ctx, vm, stored, places)
    except AppcatError:
        settle(ctx, vm.name)
        remove_tree(runtime.root)
        raise
    monitor = machines.await_monitor(runtime, child)
    if monitor is None:
        _fail(ctx, vm)
    else:
        monitor.close()
        record(ctx, EventKind.VM_STARTED, vm)


def _prepare(ctx: Context, vm: Vm, stored: StoredImage) -> None:
    """What the guest reads at boot, and what SSH clients read."""
    networks = boot_statements(ctx, vm, stored.image)
    identity = identity_document(ctx, vm, stored.image, networks)
    write_atomic(ctx.layout.vm(vm.name).identity, identity, durable=False)
    if stored.image.knows_networks:
        note_told(ctx, vm, networks)
    write_ssh_config(ctx, vm)


def _spawn(ctx: Context, vm: Vm, stored: StoredImage, places: Sequence[PortForward]) -> subprocess.Popen[bytes]:
    """Its ports are joined to its networks before there is a QEMU: nobody else is in this guest's memory."""
    paths, runtime = ctx.layout.vm(vm.name), ctx.layout.runtime(vm.uuid)
    lock = locks.open_lock(paths.run_lock)
    try:
        if not locks.lock_within(lock, 5.0):
            raise QemuError(f"{vm.name} has just been started by another command", hint="see 'appcat vm list'")
        with cables.laid(ctx, vm.uuid, vm.networks) as laid:
            cables.connect(ctx, vm)
            internet = internet_of(ctx, vm)
            wiring = machines.wiring_of(
                ctx, vm, runtime, paths, Purpose.SOLO, forwards=places, ports=laid.wiring, internet=internet
            )
            command = argv.argv(vm, machines.boot_of(stored), wiring, ctx.host)
            return machines.spawn_recorded(ctx, vm, command, [lock, *laid.inherit], backend=laid.backend)
    finally:
        os.close(lock)


def _fail(ctx: Context, vm: Vm) -> None:
    """QEMU did not come up: close the record and say why."""
    output = qemu_output(ctx, vm.name)
    reason = output.splitlines()[-1] if output else "it said nothing"
    settle(ctx, vm.name, Exit(ExitCause.NOT_STARTED, f"QEMU did not start: {reason}", now()))
    if match := _FORWARD_FAILED.search(output):
        raise _PlaceTakenError((match["protocol"], match["address"], int(match["port"])))
    raise QemuError(
        f"QEMU did not start {vm.name}: {reason}",
        hint=f"its whole output is in {ctx.layout.vm(vm.name).qemu_log}; 'appcat doctor' checks this host",
        details=output,
    )
