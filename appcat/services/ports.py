"""``port add``, ``port remove``: host ports that lead into a guest, on running vms too."""

from __future__ import annotations

import dataclasses
import re

from appcat.errors import NotFound, PortInUse
from appcat.model.event import EventKind
from appcat.model.port import PortForward, Protocol, check_distinct
from appcat.model.vm import Vm
from appcat.qemu.argv import forward_rule
from appcat.qemu.monitor import Monitor
from appcat.services.admission import check_port
from appcat.services.changing import changing
from appcat.services.context import Context
from appcat.services.events import record
from appcat.services.observe import is_alive

# A line of HMP's "info usernet":   TCP[HOST_FORWARD]  12  127.0.0.1  8080  10.0.2.15  80   0   0
_FORWARD = re.compile(
    r"(?P<protocol>TCP|UDP)\[HOST_FORWARD\]\s+\S+\s+(?P<address>\S+)\s+(?P<host>\d+)\s+\S+\s+(?P<guest>\d+)"
)


def list_ports(ctx: Context, name: str) -> tuple[PortForward, ...]:
    """The vm's forwards, the one for SSH first; raises NotFound, Broken."""
    return ctx.store.load(name).forwards


def add_port(ctx: Context, name: str, forward: PortForward) -> bool:
    """Forward a host port, at once when the vm runs; False when that is so already.

    ``vm.json`` names the forward before QEMU has it: cut off in between, it is there after the next start, or when the
    same is asked for again. Raises PortInUse, InvalidInput, NotFound, Broken, Busy, MonitorError.
    """
    with changing(ctx, name, "port add") as vm:
        known = forward in vm.ports
        if not known:
            check_distinct((*vm.forwards, forward))
        if not is_alive(ctx, name):
            if not known:
                check_port(ctx, name, forward)
                _save(ctx, vm, (*vm.ports, forward))
                record(ctx, EventKind.PORT_ADDED, vm, port=str(forward))
            return not known
        with Monitor(ctx.layout.runtime(vm.uuid).monitor) as monitor:
            if known and forward in _forwards(monitor):
                return False
            check_port(ctx, name, forward)
            _save(ctx, vm, (*vm.ports, forward) if not known else vm.ports)
            _add(ctx, monitor, vm, forward)
        record(ctx, EventKind.PORT_ADDED, vm, port=str(forward))
        return True


def remove_port(ctx: Context, name: str, forward: PortForward) -> None:
    """Take a forward away, at once when the vm runs; connections that go through it end.

    Raises NotFound when there is no such forward or vm, Broken, Busy, MonitorError.
    """
    with changing(ctx, name, "port remove") as vm:
        if forward not in vm.ports:
            raise NotFound(
                f"{name} has no forward {forward}", hint=f"see 'appcat vm port list {name}'", code="port-not-found"
            )
        if is_alive(ctx, name):
            with Monitor(ctx.layout.runtime(vm.uuid).monitor) as monitor:
                # What is not there any more is what was asked for.
                _human(monitor, f"hostfwd_remove net0 {forward.protocol}:{forward.address}:{forward.host}")
        _save(ctx, vm, tuple(port for port in vm.ports if port != forward))
        record(ctx, EventKind.PORT_REMOVED, vm, port=str(forward))


def _add(ctx: Context, monitor: Monitor, vm: Vm, forward: PortForward) -> None:
    if answer := add_forward(monitor, forward):
        _save(ctx, vm, vm.ports)
        raise PortInUse(
            f"QEMU could not forward {forward}: {answer}", hint="somebody took the port just now: try again"
        )


def add_forward(monitor: Monitor, forward: PortForward) -> str:
    """Have a running QEMU listen on a host port; what it says when it cannot, else nothing."""
    return _human(monitor, f"hostfwd_add net0 {forward_rule(forward)}")


def _save(ctx: Context, vm: Vm, ports: tuple[PortForward, ...]) -> None:
    ctx.store.save(dataclasses.replace(vm, ports=ports))


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
