"""Network cards of a running QEMU: plugged in and taken out, and brought in line with ``vm.json``.

A card is in QEMU only while its port is joined to its network, and ``vm.json`` names it all that time and longer. So
what a killed command left is a card that is named and not there: whoever comes next plugs it in.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Iterator, Sequence

from appcat.errors import AppcatError, QemuError
from appcat.model.base import StateMismatch
from appcat.model.machine import SwitchPort, TapPort
from appcat.model.network import Attachment
from appcat.model.vm import Vm
from appcat.qemu.argv import segment_card, segment_device, segment_id, segment_netdev
from appcat.qemu.hotplug import has_device, plugged_in, take_out
from appcat.qemu.monitor import CommandRefused, Monitor
from appcat.services import cables
from appcat.services.context import Context
from appcat.store.files import unlink

log = logging.getLogger(__name__)

UNPLUG_DEADLINE = 20.0
# QEMU keeps what it was handed under names of its own; a port has a tap and two namespaces at most.
MOST_DESCRIPTORS = 4


def is_there(place: Attachment, monitor: Monitor) -> bool:
    """Whether a running QEMU has the card for ``place``."""
    return has_device(monitor, segment_card(place.slot))


def missing(vm: Vm, monitor: Monitor) -> list[Attachment]:
    """Places on networks that the vm has and its QEMU has no card for: a command was cut off."""
    there = plugged_in(monitor)
    return [place for place in vm.networks if segment_card(place.slot) not in there]


def complete(ctx: Context, vm: Vm, monitor: Monitor) -> list[Attachment]:
    """Plug in what is ``missing``; raises as ``plug``."""
    found = missing(vm, monitor)
    for place in found:
        log.info("%s is on the network %s, but its QEMU has no card for it: plugging it in", vm.name, place.network)
        plug(ctx, vm, place, monitor)
    return found


def plug(ctx: Context, vm: Vm, place: Attachment, monitor: Monitor) -> None:
    """Give a running QEMU the card for ``place``, joined to its network; nothing of it is left on failure.

    Whatever its guest was told before, it has to be told of this card. Raises Unavailable, NetworkError, QemuError.
    """
    _unwire(monitor, place.slot)  # what a killed command may have left
    unlink(ctx.layout.runtime(vm.uuid).told)
    with cables.laid(ctx, vm.uuid, [place]) as laid:
        _note_backend(ctx, vm, laid.backend)
        cables.connect(ctx, vm, [place])
        try:
            (port,) = laid.wiring
            given = _hand_over(monitor, place.slot, port, laid.inherit)
            monitor.ask("netdev_add", segment_netdev(place.slot, port, given))
            monitor.ask("device_add", segment_device(place, port))
        except BaseException:
            with contextlib.suppress(AppcatError):
                _unwire(monitor, place.slot)
            raise


def unplug(ctx: Context, vm: Vm, place: Attachment, monitor: Monitor) -> None:
    """Take the card for ``place`` out of a running QEMU, and give its port back; one that is not there is fine.

    Raises QemuError when the guest does not let go of it.
    """
    take_out(monitor, segment_card(place.slot), UNPLUG_DEADLINE, ctx.check)
    _unwire(monitor, place.slot)
    cables.forget(ctx, vm.uuid, [place.slot])


def announce(monitor: Monitor, places: Sequence[Attachment]) -> None:
    """Have cards, and the guest's kernel, tell their networks who is at which address; failing is no harm."""
    if not places:
        return
    names = [segment_card(place.slot) for place in places]
    with contextlib.suppress(CommandRefused):
        monitor.execute("announce-self", interfaces=names, initial=50, max=200, rounds=2, step=100)


def _hand_over(monitor: Monitor, slot: int, port: SwitchPort, descriptors: Sequence[int]) -> str:
    """Give QEMU descriptors to keep; the name of the tap's, if it is among them."""
    tap = ""
    for number, descriptor in enumerate(descriptors):
        monitor.give(_given(slot, number), descriptor)
        if isinstance(port, TapPort) and descriptor == port.descriptor:
            tap = _given(slot, number)
    return tap


def _given(slot: int, number: int) -> str:
    return f"{segment_id(slot)}-{number}"


def _unwire(monitor: Monitor, slot: int) -> None:
    """Forget the near end of a segment whose card is gone, and what was handed over for it."""
    with _may_be_gone():
        monitor.execute("netdev_del", id=segment_id(slot))
    for number in range(MOST_DESCRIPTORS):
        with _may_be_gone():
            monitor.execute("closefd", fdname=_given(slot, number))


@contextlib.contextmanager
def _may_be_gone() -> Iterator[None]:
    try:
        yield
    except CommandRefused as error:
        if "not found" not in error.description.lower():
            raise


def _note_backend(ctx: Context, vm: Vm, backend: str) -> None:
    """The record says what kind of switch a QEMU's cards are wired to: all to the same; raises StateMismatch."""
    run = ctx.store.load_run(vm.name)
    if run is None:
        raise QemuError(f"the record of {vm.name} is gone", hint=f"restart it: appcat vm restart {vm.name}")
    if run.backend and run.backend != backend:
        raise StateMismatch(
            f"{vm.name} runs with networks over the switch {run.backend}; what it would get now is {backend}",
            hint=f"restart it: appcat vm restart {vm.name}",
        )
    if not run.backend:
        ctx.store.save_run(vm.name, dataclasses.replace(run, backend=backend))
