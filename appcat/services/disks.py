"""``disk add``, ``remove``, ``grow``: a vm's disks, on running vms too.

``vm.json`` is the truth: a disk is named there before QEMU has it and after QEMU has let it go, and a file that it does
not name is swept at the next change.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from appcat.errors import AlreadyExists, AppcatError, InvalidInput, NotFound, WrongState
from appcat.model.event import EventKind
from appcat.model.machine import nic_port
from appcat.model.size import format_size
from appcat.model.vm import ROOT_DISK, Disk, Vm, check_disk_name, free_slot
from appcat.qemu import img
from appcat.qemu.argv import disk_device, disk_id, disk_node
from appcat.qemu.hotplug import free_ports, take_out
from appcat.qemu.monitor import CommandRefused, Monitor
from appcat.services import guests
from appcat.services.admission import check_space
from appcat.services.bases import layers
from appcat.services.changing import changing
from appcat.services.context import Context
from appcat.services.events import record
from appcat.services.execute import run_quietly
from appcat.services.observe import is_alive
from appcat.services.overlays import close_chain, forget_node, live_disk
from appcat.services.states import paused
from appcat.store.files import unlink
from appcat.store.qcow2 import virtual_size

log = logging.getLogger(__name__)

UNPLUG_DEADLINE = 20.0

# The serial number has no newline, and read says so with its status.
_UNMOUNT = """
for block in /sys/block/*; do
    serial=; read -r serial <"$block/serial"
    [ "$serial" = "$1" ] || continue
    device=/dev/${block##*/}
    ! grep -q "^$device " /proc/mounts || umount "$device" 2>&1 || exit 9
done 2>/dev/null
exit 0
"""


@dataclass(frozen=True)
class DiskUse:
    """A disk and the bytes it takes on the host: its own, and those of layers below it, which others may stand on."""

    disk: Disk
    used: int
    shared: int


def list_disks(ctx: Context, name: str) -> list[DiskUse]:
    """The vm's disks; raises NotFound, Broken."""
    vm = ctx.store.load(name)
    return [_use(ctx, disk, path_of(ctx, name, disk)) for disk in vm.disks]


def _use(ctx: Context, disk: Disk, path: Path) -> DiskUse:
    """Of a file that is lost, or damaged, what there is of it."""
    below: list[Path] = []
    with contextlib.suppress(AppcatError):
        below = layers(ctx).chain(path)[1:]
    return DiskUse(disk, img.allocated(path), sum(img.allocated(layer) for layer in below))


def add_disk(ctx: Context, name: str, disk_name: str, size: int) -> Vm:
    """Make an empty disk of ``size`` bytes; a running guest sees it at once and mounts it.

    Raises AlreadyExists, InvalidInput, InsufficientSpace, NotFound, Broken, Busy, MonitorError.
    """
    check_disk_name(disk_name)
    if disk_name == ROOT_DISK:
        raise InvalidInput(
            f"{ROOT_DISK} is the name of the disk that a guest starts from",
            hint="give the new disk another name",
            code="invalid-name",
        )
    with _changing(ctx, name, "disk add") as vm:
        if any(disk.name == disk_name for disk in vm.disks):
            raise AlreadyExists(f"{name} has a disk {disk_name} already", hint=f"see 'appcat vm disk list {name}'")
        disk = Disk(disk_name, f"{disk_name}.qcow2", size, free_slot(vm.disks))
        path = path_of(ctx, name, disk)
        check_space(path.parent)
        img.create(path, size)
        changed = dataclasses.replace(vm, disks=(*vm.disks, disk))
        ctx.store.save(changed)
        if is_alive(ctx, name):
            try:
                plug(ctx, vm, [disk])
            except AppcatError:
                ctx.store.save(vm)
                unlink(path)
                raise
            _tell_guest(ctx, changed)
        record(ctx, EventKind.DISK_ADDED, changed, disk=disk_name, size=size)
        return changed


def remove_disk(ctx: Context, name: str, disk_name: str) -> Vm:
    """Remove a disk with its data. On a running vm only one that was added while it runs; the guest unmounts it first.

    Raises WrongState when the guest uses it or is paused, NotFound, Broken, Busy, MonitorError.
    """
    with _changing(ctx, name, "disk remove") as vm:
        disk = find_disk(vm, disk_name)
        if disk is vm.root_disk:
            raise InvalidInput(
                f"{name} starts from its disk {disk_name}: it cannot be removed",
                hint=f"if you do not need the vm any more: appcat vm delete {name}",
                code="root-disk",
            )
        if is_alive(ctx, name):
            _unplug(ctx, vm, disk)
        changed = dataclasses.replace(vm, disks=tuple(other for other in vm.disks if other is not disk))
        ctx.store.save(changed)
        unlink(path_of(ctx, name, disk))
        record(ctx, EventKind.DISK_REMOVED, changed, disk=disk_name)
        return changed


def grow_disk(ctx: Context, name: str, disk_name: str, size: int) -> Vm:
    """Make a disk ``size`` bytes large; a running guest sees it at once and its file system grows.

    Raises InvalidInput when it would shrink, NotFound, Broken, Busy, MonitorError.
    """
    with _changing(ctx, name, "disk grow") as vm:
        check_growth(ctx, vm, [(disk_name, size)])
        disk = find_disk(vm, disk_name)
        path = path_of(ctx, name, disk)
        grown = dataclasses.replace(disk, size=size)
        changed = dataclasses.replace(vm, disks=tuple(grown if other is disk else other for other in vm.disks))
        ctx.store.save(changed)
        try:
            if is_alive(ctx, name):
                with Monitor(ctx.layout.runtime(vm.uuid).monitor) as monitor:
                    live = live_disk(monitor, disk)
                    monitor.execute("block_resize", node_name=live.node if live else disk_id(disk_name), size=size)
            else:
                img.resize(path, size)
        except AppcatError:
            ctx.store.save(vm)
            raise
        if is_alive(ctx, name):
            _tell_guest(ctx, vm)
        record(ctx, EventKind.DISK_GROWN, changed, disk=disk_name, size=size)
        return changed


def check_growth(ctx: Context, vm: Vm, disks: Sequence[tuple[str, int]]) -> None:
    """Raise NotFound or InvalidInput when one of these disks cannot become so large."""
    for name, size in disks:
        disk = find_disk(vm, name)
        # A growth that was cut off may be asked for again.
        have = min(disk.size, virtual_size(path_of(ctx, vm.name, disk)))
        if size <= have:
            raise InvalidInput(
                f"disk {name} has {format_size(have)}; it can only grow", hint="give a larger size", code="invalid-size"
            )


def settle_disks(ctx: Context, vm: Vm) -> None:
    """Before a start: finish a growth that was cut off, and sweep files that ``vm.json`` does not name."""
    for disk in vm.disks:
        path = path_of(ctx, vm.name, disk)
        if virtual_size(path) < disk.size:
            img.resize(path, disk.size)
    _sweep(ctx, vm)


def path_of(ctx: Context, name: str, disk: Disk) -> Path:
    """Where a disk's file is."""
    return ctx.layout.vm(name).disks / disk.file


def find_disk(vm: Vm, disk_name: str) -> Disk:
    """The disk called ``disk_name``; raises NotFound."""
    for disk in vm.disks:
        if disk.name == disk_name:
            return disk
    names = ", ".join(disk.name for disk in vm.disks) or "none"
    raise NotFound(f"{vm.name} has no disk {disk_name}", hint=f"its disks: {names}", code="disk-not-found")


@contextlib.contextmanager
def _changing(ctx: Context, name: str, verb: str) -> Iterator[Vm]:
    with changing(ctx, name, verb) as vm:
        if not is_alive(ctx, name):
            settle_disks(ctx, vm)
        yield vm


def _sweep(ctx: Context, vm: Vm) -> None:
    known = {disk.file for disk in vm.disks}
    with contextlib.suppress(OSError):
        for path in ctx.layout.vm(vm.name).disks.glob("*.qcow2"):
            if path.name not in known:
                log.info("sweeping %s: vm.json does not name it", path)
                unlink(path)


def plug(ctx: Context, vm: Vm, disks: Sequence[Disk]) -> None:
    """Plug disks into a running vm; the caller holds ``op.lock``, tells the guest. Raises WrongState, MonitorError."""
    with Monitor(ctx.layout.runtime(vm.uuid).monitor) as monitor:
        for disk in disks:
            _plug(ctx, vm, disk, monitor)


def _plug(ctx: Context, vm: Vm, disk: Disk, monitor: Monitor) -> None:
    port = _free_port(vm, monitor)
    node = disk_id(disk.name)
    monitor.execute("blockdev-add", **disk_node(disk, path_of(ctx, vm.name, disk)))
    try:
        monitor.execute("device_add", **disk_device(disk), bus=port)
    except AppcatError:
        with contextlib.suppress(AppcatError):
            monitor.execute("blockdev-del", node_name=node)
        raise


def _free_port(vm: Vm, monitor: Monitor) -> str:
    """A root port with nothing in it that belongs to none of the vm's networks; raises WrongState without one."""
    owned = {nic_port(place.slot) for place in vm.networks}
    for port in free_ports(monitor):
        if port not in owned:
            return port
    raise WrongState("no more can be plugged into this vm while it runs", hint="restart it: what it has moves to slots")


def _unplug(ctx: Context, vm: Vm, disk: Disk) -> None:
    with Monitor(ctx.layout.runtime(vm.uuid).monitor) as monitor:
        device, live = f"{disk_id(disk.name)}-device", live_disk(monitor, disk)
        if live is None:  # an earlier removal was cut off
            forget_node(monitor, disk_id(disk.name))
            return
        # To SSH this vm is busy, with us.
        if not monitor.execute("query-status")["running"]:
            raise paused(vm.name)
        _unmount(ctx, vm, disk)
        try:
            take_out(monitor, device, UNPLUG_DEADLINE)
        except CommandRefused as error:
            _tell_guest(ctx, vm)
            raise WrongState(
                f"disk {disk.name} was there when {vm.name} started and stays until it stops",
                hint=f"appcat vm stop {vm.name}, then remove it",
                code="disk-in-use",
            ) from error
        close_chain(monitor, live)


def _unmount(ctx: Context, vm: Vm, disk: Disk) -> None:
    """Have the guest unmount the disk; raises WrongState when it is in use, with the guest's own words."""
    become = [] if vm.login == "root" else ["sudo", "-n"]
    status, output = run_quietly(ctx, vm.name, [*become, "sh", "-c", _UNMOUNT, "sh", disk.name])
    if status != 0:
        raise WrongState(
            f"disk {disk.name} is in use in {vm.name}",
            hint="end what uses it there, then try again",
            details=output,
            code="disk-in-use",
        )


def _tell_guest(ctx: Context, vm: Vm) -> None:
    try:
        guests.announce_disks(ctx, vm)
    except AppcatError as error:
        log.warning("the guest of %s was not told of its disks: %s", vm.name, error)
        ctx.progress(f"{vm.name} has to mount it by itself: {error}", 0, 0)
