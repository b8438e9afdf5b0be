"""``network show``: a network as it is now: who is on it, and whether frames flow there."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum

from appcat.errors import AppcatError
from appcat.model.network import Attachment
from appcat.model.status import Observation, Status
from appcat.model.vm import Vm
from appcat.services.context import Context
from appcat.services.networks import SeenNetwork, find_network
from appcat.services.observe import look_safely
from appcat.services.routes import host_routes, overlapping
from appcat.switch import client
from appcat.switch.client import Backend, Look, port_name


class NetworkState(StrEnum):
    """Whether frames flow: nobody is there who could send any, they do, they do not."""

    IDLE = "idle"
    UP = "up"
    DOWN = "down"


@dataclass(frozen=True)
class ShownNetwork:
    """A network, its members' ``statuses`` in their order, and the host's routes that its subnet overlaps now."""

    seen: SeenNetwork
    statuses: tuple[Status, ...]
    backend: str
    state: NetworkState
    detail: str
    conflicts: tuple[str, ...] = ()


def show_network(ctx: Context, name: str) -> ShownNetwork:
    """One network; starts nothing. Raises InvalidInput, NotFound."""
    seen = find_network(ctx, name)
    looks = [look_safely(ctx, vm.name) for vm, _ in seen.members]
    state, detail, backend = _state(ctx, seen, looks)
    routes = overlapping(seen.network.range, host_routes()) if seen.network else []
    statuses = tuple(look.status if look else Status.STOPPED for look in looks)
    return ShownNetwork(seen, statuses, backend, state, detail, tuple(str(route) for route in routes))


def _state(ctx: Context, seen: SeenNetwork, looks: Sequence[Observation | None]) -> tuple[NetworkState, str, str]:
    """State, detail and backend; the switch is asked even when nobody runs, for the last of these."""
    try:
        look = client.look(ctx.layout)
        backend = str(look.backend or client.verdict(ctx.layout).backend)
    except AppcatError as error:
        return NetworkState.DOWN, f"{error.message}: {error.hint}", ""
    if seen.problem:
        return NetworkState.DOWN, seen.problem, backend
    running = [member for member, one in zip(seen.members, looks, strict=True) if one and _is_steady(one)]
    state, detail = judge(look, running, look.networks.get(seen.name, ()))
    return state, detail, backend


def judge(look: Look, running: Sequence[tuple[Vm, Attachment]], joined: Collection[str]) -> tuple[NetworkState, str]:
    """What is to be said of a network on which these vms run, and which these ports are ``joined`` to."""
    if not running:
        return NetworkState.IDLE, ""
    if look.backend is Backend.HUB and look.pid is None:
        return NetworkState.DOWN, "its switch has ended: it is started again within seconds, and traffic goes on then"
    off = [vm.name for vm, place in running if port_name(vm.uuid, place.slot) not in joined]
    if not off:
        return NetworkState.UP, ""
    names, them = ", ".join(off), "it" if len(off) == 1 else "them"
    state = NetworkState.DOWN if len(off) == len(running) else NetworkState.UP
    return state, f"not joined to it: {names}; restart {them}: appcat vm restart {' '.join(off)}"


def _is_steady(seen: Observation) -> bool:
    """Whether the vm runs, and no command is about to change that: its card may not be joined yet, or no more."""
    return seen.status in (Status.RUNNING, Status.PAUSED, Status.UNRESPONSIVE)
