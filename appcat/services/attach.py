"""``network attach``, ``detach``: a vm's places on private networks, on running vms too.

``vm.json`` is the truth: a place is named there before QEMU has a card for it and until QEMU has let the card go. What
a killed command left in between, the next one finishes (``services.cards``).
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Iterator

from appcat.errors import AlreadyExists, AppcatError, Cancelled, NotFound, WrongState
from appcat.model.event import EventKind
from appcat.model.machine import nic_port
from appcat.model.network import MOST_NETWORKS, Attachment, Joining
from appcat.model.vm import Vm
from appcat.qemu.hotplug import free_ports
from appcat.qemu.monitor import Monitor
from appcat.services import addresses, cards, neighbours
from appcat.services.changing import changing
from appcat.services.context import Context
from appcat.services.events import record
from appcat.services.observe import is_alive
from appcat.services.states import paused
from appcat.store import locks

log = logging.getLogger(__name__)

# Seconds for a guest that nobody has waited for: it may be up, or booting still.
PERHAPS_BOOTING = 3.0


def list_attachments(ctx: Context, name: str) -> tuple[Attachment, ...]:
    """The vm's places on networks; raises NotFound, Broken."""
    return ctx.store.load(name).networks


def attach_network(ctx: Context, name: str, joining: Joining) -> Vm:
    """Put a vm on a network; a running one gets a network card, and its guest is told its address there.

    Raises InvalidInput, NotFound, AlreadyExists when it is on it, AddressInUse, NetworkFull, WrongState without room,
    Broken, Busy, Unavailable, NetworkError, MonitorError.
    """
    with changing(ctx, name, "network attach") as vm, _card_table(ctx, vm) as table:
        place = next((place for place in vm.networks if place.network == joining.network), None)
        if place is None:
            place = _place(ctx, vm, joining, table)
            changed = dataclasses.replace(vm, networks=(*vm.networks, place))
            _plug(ctx, vm, changed, place, table)
            _say_internet(ctx, vm, changed, table)
        elif place not in table.finished or joining.address not in ("", place.address):
            raise AlreadyExists(
                f"{name} is on the network {joining.network} already, as {place.address}",
                hint=f"see 'appcat vm network list {name}'; to change its address, detach it first",
                code="already-attached",
            )
        else:  # an earlier attachment was cut off
            changed = vm
        record(ctx, EventKind.NETWORK_ATTACHED, changed, network=place.network, address=place.address)
        if table.monitor:
            _tell_guest(ctx, changed, table.monitor)
    neighbours.inform(ctx, [place.network], but=[name])
    return changed


def detach_network(ctx: Context, name: str, network: str) -> Vm:
    """Take a vm off a network, whose address and MAC it then has no more. A running guest has to let its card go.

    Raises NotFound when it is not on it, WrongState when it is paused, Broken, Busy, QemuError.
    """
    with changing(ctx, name, "network detach") as vm, _card_table(ctx, vm, leaving=network) as table:
        place = find_place(vm, network)
        if table.monitor:
            if cards.is_there(place, table.monitor) and not table.monitor.execute("query-status")["running"]:
                raise paused(name)
            cards.unplug(ctx, vm, place, table.monitor)
        changed = dataclasses.replace(vm, networks=tuple(other for other in vm.networks if other is not place))
        ctx.store.save(changed)
        _say_internet(ctx, vm, changed, table)
        record(ctx, EventKind.NETWORK_DETACHED, changed, network=network, address=place.address)
        if table.monitor:
            _tell_guest(ctx, changed, table.monitor)
    neighbours.inform(ctx, [network], but=[name])
    return changed


def find_place(vm: Vm, network: str) -> Attachment:
    """The vm's place on ``network``; raises NotFound."""
    for place in vm.networks:
        if place.network == network:
            return place
    names = ", ".join(place.network for place in vm.networks) or "none"
    raise NotFound(
        f"{vm.name} is not on the network {network}", hint=f"its networks: {names}", code="attachment-not-found"
    )


@dataclasses.dataclass(frozen=True)
class _Table:
    """The monitor of a vm that runs, and the places whose cards had to be plugged in because a command was cut off."""

    monitor: Monitor | None = None
    finished: tuple[Attachment, ...] = ()


@contextlib.contextmanager
def _card_table(ctx: Context, vm: Vm, leaving: str = "") -> Iterator[_Table]:
    """Whatever was cut off is finished first, but for the network that the vm is ``leaving`` anyway."""
    if not is_alive(ctx, vm.name):
        yield _Table()
        return
    with Monitor(ctx.layout.runtime(vm.uuid).monitor) as monitor:
        staying = dataclasses.replace(vm, networks=tuple(place for place in vm.networks if place.network != leaving))
        yield _Table(monitor, tuple(cards.complete(ctx, staying, monitor)))


def _place(ctx: Context, vm: Vm, joining: Joining, table: _Table) -> Attachment:
    """A new place, written into ``vm.json`` under the allocation lock."""
    slot = _free_slot(vm, table)
    with locks.hold(ctx.layout.home_lock, f"network attach {vm.name}", check=ctx.check):
        (found,) = addresses.place(ctx, [joining], vm.networks, vm=vm.name)
        place = dataclasses.replace(found, slot=slot)
        ctx.store.save(dataclasses.replace(vm, networks=(*vm.networks, place)))
    return place


def _free_slot(vm: Vm, table: _Table) -> int:
    """The lowest slot whose root port is nobody's; raises WrongState when there is none."""
    taken = {place.slot for place in vm.networks}
    free = set(free_ports(table.monitor)) if table.monitor else None
    for slot in range(MOST_NETWORKS):
        if slot not in taken and (free is None or nic_port(slot) in free):
            return slot
    if len(taken) == MOST_NETWORKS:
        raise WrongState(
            f"{vm.name} is on {MOST_NETWORKS} networks, which is the most",
            hint=f"take it off one first: appcat vm network detach {vm.name} NETWORK",
            code="no-room",
        )
    raise WrongState(
        f"no more can be plugged into {vm.name} while it runs",
        hint=f"restart it (appcat vm restart {vm.name}): what it has moves to slots",
        code="no-room",
    )


def _plug(ctx: Context, before: Vm, changed: Vm, place: Attachment, table: _Table) -> None:
    if table.monitor is None:
        return
    try:
        cards.plug(ctx, changed, place, table.monitor)
    except AppcatError:
        ctx.store.save(before)
        raise


def _say_internet(ctx: Context, before: Vm, changed: Vm, table: _Table) -> None:
    """Whether a machine has a way out is decided when it starts."""
    with contextlib.suppress(AppcatError):  # a network's file is damaged: the next start says so
        way_out = addresses.internet_of(ctx, changed)
        if table.monitor and way_out != addresses.internet_of(ctx, before):
            words = "a way out" if way_out else "no way out any more"
            ctx.progress(f"{changed.name} has {words} from its next start on: see 'appcat network show'", 0, 0)


def _tell_guest(ctx: Context, vm: Vm, monitor: Monitor) -> None:
    """A guest that cannot be told is told later by the keeper, and has its card all the same."""
    is_up = ctx.layout.runtime(vm.uuid).ready.exists()
    try:
        if not monitor.execute("query-status")["running"]:
            ctx.progress(f"{vm.name} is paused: its guest is told when it goes on", 0, 0)
            return
        neighbours.tell(ctx, vm.name, neighbours.TELL_PATIENCE if is_up else PERHAPS_BOOTING)
        cards.announce(monitor, vm.networks)
    except Cancelled:
        raise
    except AppcatError as error:
        log.warning("the guest of %s was not told of its networks: %s", vm.name, error)
        ctx.progress(f"the guest of {vm.name} is told later, for now it could not be: {error.message}", 0, 0)
