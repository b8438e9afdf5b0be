"""Beginning in a base: a QEMU maps the frozen memory copy-on-write, takes the devices' state over, and becomes a vm.

No host port leads into it, and its cards on private networks lead nowhere, before its guest has taken its own
identity.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import subprocess
from pathlib import Path

from appcat.errors import AppcatError, PortInUse, QemuError
from appcat.guest.identity import document
from appcat.model.base import Base, check_fits
from appcat.model.event import EventKind
from appcat.model.machine import Boot, Purpose
from appcat.model.run import Exit, ExitCause
from appcat.model.vm import Vm
from appcat.qemu import argv, migration
from appcat.qemu.monitor import Monitor
from appcat.services import admission, cables, cards, guests, machines
from appcat.services.addresses import internet_of
from appcat.services.context import Context, now
from appcat.services.events import record, record_ready
from appcat.services.listening import low_limit
from appcat.services.neighbours import boot_statements, note_told
from appcat.services.ports import add_forward
from appcat.services.settle import settle
from appcat.services.spots import ATTEMPTS, moved
from appcat.store import locks
from appcat.store.files import write_atomic

log = logging.getLogger(__name__)


def begin(ctx: Context, vm: Vm, base: Base, use: int, *, fork: bool = False) -> Vm:
    """Run ``vm``, whose files are there, from ``base`` on; ``use`` keeps the base. The caller holds ``op.lock``.

    The vm's files are synced. Disks that the base does not have are plugged in afterwards (``disks.plug``).

    A ``fork`` keeps the inner identity of the base, but for its places on networks where it has others. Gives the vm,
    whose address may have moved. Raises StateMismatch, Unavailable, NetworkError, QemuError, GuestError, PortInUse; no
    QEMU is left then.
    """
    processor = argv.cpu_model(vm.machine.arch, ctx.host.accelerator)
    check_fits(base, base.vm.name, ctx.host, processor, cables.backend_here(ctx, vm.networks))
    stored = machines.image_of(ctx, vm)
    networks = boot_statements(ctx, vm, stored.image)
    identity = guests.whole_identity(ctx, vm, stored.image, networks)
    # What the guest reads should it boot again.
    write_atomic(ctx.layout.vm(vm.name).identity, document("boot", identity), durable=False)
    child = _spawn(ctx, vm, base, use, machines.boot_of(stored))
    try:
        monitor = machines.await_monitor(ctx.layout.runtime(vm.uuid), child)
        if monitor is None:
            raise machines.not_started(vm.name, ctx.layout.vm(vm.name).qemu_log)
        with monitor:
            ctx.check()
            migration.load(monitor, ctx.layout.base(base.id).state)
            ctx.check()
            guests.become(ctx, vm, networks if fork else identity, lambda: _let_go(ctx, vm, monitor))
            if stored.image.knows_networks:
                note_told(ctx, vm, networks)
            cables.connect(ctx, vm)
            cards.announce(monitor, vm.networks)
            vm = _open_ports(ctx, vm, monitor)
        run = ctx.store.load_run(vm.name)
        if run is None:
            raise QemuError(f"the record of {vm.name} is gone", hint="try again")
        ctx.store.save_run(vm.name, dataclasses.replace(run, begun=True))
        record(ctx, EventKind.VM_STARTED, vm)
        record_ready(ctx, vm)
        return vm
    except BaseException as error:
        child.kill()
        child.wait()
        reason = error.message if isinstance(error, AppcatError) else "the command was interrupted"
        settle(ctx, vm.name, Exit(ExitCause.NOT_STARTED, f"it could not begin in its base: {reason}", now()))
        raise


def _spawn(ctx: Context, vm: Vm, base: Base, use: int, boot: Boot) -> subprocess.Popen[bytes]:
    paths, runtime = ctx.layout.vm(vm.name), ctx.layout.runtime(vm.uuid)
    machines.claim_runtime(runtime)
    known = {disk.name for disk in base.vm.disks}
    machine = dataclasses.replace(vm, disks=tuple(disk for disk in vm.disks if disk.name in known))
    lock = locks.open_lock(paths.run_lock)
    try:
        if not locks.lock_within(lock, 5.0):
            raise QemuError(f"{vm.name} has just been started by another command", hint="see 'appcat vm list'")
        with cables.laid(ctx, vm.uuid, vm.networks) as laid:
            wiring = machines.wiring_of(
                ctx,
                machine,
                runtime,
                paths,
                Purpose.CLONE,
                memory=Path(base.memory),
                plugged=base.plugged,
                ports=laid.wiring,
                internet=internet_of(ctx, vm),
            )
            command = argv.argv(machine, boot, wiring, ctx.host)
            return machines.spawn_recorded(ctx, vm, command, [lock, use, *laid.inherit], base.id, laid.backend)
    finally:
        os.close(lock)


def _let_go(ctx: Context, vm: Vm, monitor: Monitor) -> None:
    """While the guest becomes somebody else, its new files are made to survive a power failure."""
    monitor.execute("cont")
    ctx.store.sync(vm.name)


def _open_ports(ctx: Context, vm: Vm, monitor: Monitor) -> Vm:
    """Have QEMU listen, at the vm's claim to its address first; what it need not have, it may be refused."""
    for _ in range(ATTEMPTS):
        if not add_forward(monitor, vm.ssh_forward):
            break
        vm = moved(ctx, vm)
    else:
        raise PortInUse(f"no host port could be had for {vm.name}", hint="see which ports are in use: ss -ltn")
    sure = vm.forwards(low_limit())
    for place in admission.places_now(vm)[1:]:
        if (answer := add_forward(monitor, place)) and place in sure:
            raise PortInUse(f"QEMU could not forward {place}: {answer}", hint="stop its owner, or publish another")
    return vm
