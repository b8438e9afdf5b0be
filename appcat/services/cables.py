"""Ports of the switch for the network cards of one QEMU: opened before it, joined to networks once it may speak there.

A port belongs to its owner, a vm's uuid or a base's id, and a slot. It is opened joined to nothing, so a machine that
wakes up as somebody else, or that never runs, has a card like any other that leads nowhere.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from appcat.errors import AppcatError
from appcat.model.machine import HubPort, SwitchPort, TapPort
from appcat.model.network import MOST_NETWORKS, Attachment
from appcat.model.vm import Vm
from appcat.services.context import Context
from appcat.switch import client
from appcat.switch.client import Backend, Port, port_name
from appcat.switch.hub import MTU as HUB_MTU

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Cables:
    """Ports for the cards of one QEMU, in the order of its networks."""

    ports: tuple[Port, ...] = ()

    @property
    def wiring(self) -> tuple[SwitchPort, ...]:
        """What QEMU's cards are wired to."""
        return tuple(port.wiring for port in self.ports)

    @property
    def inherit(self) -> list[int]:
        """Descriptors that QEMU must inherit, or be handed."""
        return [descriptor for port in self.ports for descriptor in port.inherit]

    @property
    def backend(self) -> str:
        """The kind of switch they are of; empty where there are none."""
        return str(backend_of(self.ports[0].wiring)) if self.ports else ""


@contextlib.contextmanager
def laid(ctx: Context, owner: str, networks: Sequence[Attachment]) -> Iterator[Cables]:
    """Ports for these cards of ``owner``'s QEMU, which begins, or is handed them, inside the block.

    When the block fails they are gone again. Raises Unavailable, NetworkError when the switch gives none.
    """
    if not networks:
        yield Cables()
        return
    names = [port_name(owner, there.slot) for there in networks]
    ports = client.open_ports(ctx.layout, names, ctx.check)
    try:
        yield Cables(tuple(ports))
    except BaseException:
        forget(ctx, owner, [there.slot for there in networks])
        raise
    finally:
        for port in ports:
            port.close()


def connect(ctx: Context, vm: Vm, networks: Sequence[Attachment] | None = None) -> None:
    """Let frames flow between the vm's cards and their networks, those ``networks`` or all; again changes nothing.

    Raises Unavailable, NetworkError.
    """
    wanted = vm.networks if networks is None else networks
    if wanted:
        client.connect(ctx.layout, [(port_name(vm.uuid, there.slot), there.network) for there in wanted])


def forget(ctx: Context, owner: str, slots: Iterable[int] = range(MOST_NETWORKS)) -> None:
    """The ports of a QEMU that is gone, or of cards that it has no more; never raises."""
    try:
        client.forget(ctx.layout, [port_name(owner, slot) for slot in slots])
    except AppcatError as error:
        log.warning("ports of %s are left in the switch: %s", owner, error)


def backend_here(ctx: Context, networks: Sequence[Attachment]) -> str:
    """The kind of switch that cards on ``networks`` get here; empty where there are none."""
    return str(client.backend(ctx.layout)) if networks else ""


def backend_of(port: SwitchPort) -> Backend:
    """The kind of switch that a port is of."""
    return Backend.BRIDGE if isinstance(port, TapPort) else Backend.HUB


def shapes(ctx: Context, networks: Sequence[Attachment]) -> tuple[SwitchPort, ...]:
    """Ports as cards on ``networks`` would get them here, without what differs from one run to the next."""
    if backend_here(ctx, networks) == Backend.HUB:
        return tuple(HubPort(Path("/"), Path("/"), HUB_MTU) for _ in networks)
    return tuple(TapPort(0) for _ in networks)
