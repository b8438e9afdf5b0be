"""``port list``, ``port add``, ``port remove``: host ports that lead into a guest, on running vms too."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection

from appcat.errors import NotFound, PortInUse
from appcat.model.event import EventKind
from appcat.model.port import LARGEST_PORT, OWN, PortForward, Protocol, check_distinct
from appcat.model.vm import Vm
from appcat.qemu.argv import forward_rule
from appcat.qemu.monitor import Monitor
from appcat.services.admission import check_port, try_bind
from appcat.services.changing import changing
from appcat.services.context import Context
from appcat.services.events import record
from appcat.services.listening import Listening, low_limit
from appcat.services.observe import is_alive
from appcat.services.places import Outlook, Place
from appcat.services.spots import Spots
from appcat.store import locks

# A line of HMP's "info usernet":   TCP[HOST_FORWARD]  12  127.0.0.1  8080  10.0.2.15  80   0   0
_FORWARD = re.compile(
    r"(?P<protocol>TCP|UDP)\[HOST_FORWARD\]\s+\S+\s+(?P<address>\S+)\s+(?P<host>\d+)\s+\S+\s+(?P<guest>\d+)"
)


def list_ports(ctx: Context, name: str) -> tuple[Place, ...]:
    """Where the guest's ports are on the host, the one for SSH first; raises NotFound, Broken."""
    outlook = Outlook(ctx.store.load(name), is_alive(ctx, name), Listening())
    return (*outlook.ssh, *outlook.published)


def add_port(ctx: Context, name: str, forward: PortForward) -> bool:
    """Forward a host port, at once when the vm runs; False when that is so already.

    ``vm.json`` names the forward before QEMU has it: cut off in between, it is there after the next start, or when the
    same is asked for again. So it is with a low number that this user was not allowed to have before.
    Raises PortInUse, InvalidInput, NotFound, Broken, Busy, MonitorError.
    """
    with changing(ctx, name, "port add") as vm:
        known = _known(vm, forward)
        changed = _with(ctx, vm, forward) if known is None else vm
        port = known or changed.ports[-1]
        if is_alive(ctx, name):
            with Monitor(ctx.layout.runtime(vm.uuid).monitor) as monitor:
                had = _forwards(monitor) if known else set()
                if not _open(ctx, monitor, vm, changed, port, had):
                    return False
        elif known:
            return False
        else:
            check_port(ctx, name, port.places(vm.address, low_limit())[0])
            ctx.store.save(changed)
        record(ctx, EventKind.PORT_ADDED, vm, port=str(forward))
        return True


def _open(ctx: Context, monitor: Monitor, vm: Vm, changed: Vm, port: PortForward, had: Collection[PortForward]) -> bool:
    """Have QEMU listen wherever ``port`` can be, but for what it ``had``; False when nothing was missing.

    ``vm`` is written down as ``changed`` before, and again as it was if QEMU refuses what it must have.
    """
    sure, *more = port.places(vm.address, low_limit())
    more = [place for place in more if place not in had and place in changed.extras(low_limit())]
    more = [place for place in more if try_bind(place) is None]
    if sure not in had:
        check_port(ctx, vm.name, sure)
    elif not more:
        return False
    ctx.store.save(changed)
    if sure not in had and (answer := add_forward(monitor, sure)):
        ctx.store.save(vm)
        raise PortInUse(f"QEMU could not forward {sure}: {answer}", hint="somebody took the port just now: try again")
    for place in more:
        add_forward(monitor, place)
    return True


def _known(vm: Vm, forward: PortForward) -> PortForward | None:
    return next((port for port in vm.ports if port.same(forward)), None)


def _with(ctx: Context, vm: Vm, forward: PortForward) -> Vm:
    """The vm with one more forward; one by number has a port of 127.0.0.1 where the vm has no address of its own."""
    check_distinct((*vm.ports, forward), vm.ssh_forward, vm.address or OWN)
    if forward.is_own and not vm.address:
        with locks.hold(ctx.layout.home_lock, f"port add {vm.name}", check=ctx.check):
            (forward,) = Spots(ctx).give_ports(dataclasses.replace(vm, ports=(forward,))).ports
    return dataclasses.replace(vm, ports=(*vm.ports, forward))


def remove_port(ctx: Context, name: str, forward: PortForward) -> None:
    """Take a forward away, at once when the vm runs; connections that go through it end.

    Raises NotFound when there is no such forward or vm, Broken, Busy, MonitorError.
    """
    with changing(ctx, name, "port remove") as vm:
        known = _known(vm, forward)
        if known is None:
            raise NotFound(
                f"{name} has no forward {forward}", hint=f"see 'appcat vm port list {name}'", code="port-not-found"
            )
        left = dataclasses.replace(vm, ports=tuple(port for port in vm.ports if port != known))
        if is_alive(ctx, name):
            others = (*left.forwards(low_limit()), *left.extras(low_limit()))
            with Monitor(ctx.layout.runtime(vm.uuid).monitor) as monitor:
                for place in known.places(vm.address, LARGEST_PORT + 1):
                    if not any(place.clashes(other) for other in others):
                        # What is not there any more is what was asked for.
                        _human(monitor, f"hostfwd_remove net0 {place.protocol}:{place.address}:{place.host}")
        ctx.store.save(left)
        record(ctx, EventKind.PORT_REMOVED, vm, port=str(forward))


def add_forward(monitor: Monitor, forward: PortForward) -> str:
    """Have a running QEMU listen on a host port; what it says when it cannot, else nothing."""
    return _human(monitor, f"hostfwd_add net0 {forward_rule(forward)}")


def _forwards(monitor: Monitor) -> set[PortForward]:
    """What a running QEMU forwards now."""
    return parse_usernet(_human(monitor, "info usernet"))


def parse_usernet(text: str) -> set[PortForward]:
    """The forwards in what HMP's ``info usernet`` prints."""
    return {
        PortForward(
            int(match["host"]), int(match["guest"]), _address(match["address"]), Protocol(match["protocol"].lower())
        )
        for match in _FORWARD.finditer(text)
    }


def _address(text: str) -> str:
    return "0.0.0.0" if text == "*" else text


def _human(monitor: Monitor, line: str) -> str:
    """The human monitor's answer: QMP has no command for user-mode forwards; an empty one means it worked."""
    return str(monitor.execute("human-monitor-command", command_line=line)).strip()
