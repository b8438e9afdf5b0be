"""``network create``, ``list``, ``show``, ``delete``: private networks, and who is on them."""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from appcat.errors import AppcatError, Broken, Conflict, InvalidInput
from appcat.model.event import EventKind
from appcat.model.machine import USER_NETWORK
from appcat.model.name import check_labels, check_name
from appcat.model.network import (
    AUTOMATIC,
    AUTOMATIC_PREFIX,
    DEFAULT_NETWORK,
    NO_NETWORK,
    Attachment,
    Network,
    parse_subnet,
)
from appcat.model.vm import Vm
from appcat.services.context import Context, now, user_name
from appcat.services.events import record
from appcat.services.routes import Route, Subnet, host_routes, overlapping
from appcat.store import locks
from appcat.store.files import make_private_directory
from appcat.store.networks import already_exists, not_found


class NetworkInUse(Conflict):
    """Vms are on the network, or it is the one that always exists."""

    code = "network-in-use"


class SubnetInUse(Conflict):
    """The subnet is another network's, or the host has a use for it."""

    code = "subnet-in-use"


@dataclass(frozen=True)
class NetworkRequest:
    """What the user asks for: without ``subnet`` the first free one, with ``twin`` that network's own."""

    name: str
    subnet: str | None = None
    internet: bool = True
    twin: str = ""
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SeenNetwork:
    """A network and who is on it; of a broken one only its name and, in ``problem``, what is wrong."""

    name: str
    network: Network | None
    members: tuple[tuple[Vm, Attachment], ...] = ()
    problem: str = ""


def create_network(ctx: Context, request: NetworkRequest) -> Network:
    """Make a network; one whose file was lost gets the subnet that its members have addresses of.

    Raises InvalidInput, AlreadyExists, NotFound (its twin), SubnetInUse with the owner, Broken, Busy.
    """
    check_new_name(request.name)
    check_labels(request.labels)
    subnet = parse_subnet(request.subnet) if request.subnet else None
    make_private_directory(ctx.layout.home)
    with locks.hold(ctx.layout.home_lock, f"network create {request.name}", check=ctx.check):
        if ctx.networks.exists(request.name):
            raise already_exists(request.name)
        given = _twins_subnet(ctx, request, subnet) if request.twin else subnet
        return _make(ctx, request, given)


def list_networks(ctx: Context) -> list[SeenNetwork]:
    """Every network, broken ones included, by name. Raises Unavailable."""
    with contextlib.suppress(AppcatError):  # the others can be looked at all the same
        ensure_default(ctx)
    vms = readable_vms(ctx)
    return [_seen(ctx, name, found, vms) for name, found in ctx.networks.all().items()]


def find_network(ctx: Context, name: str) -> SeenNetwork:
    """One network, broken or not; raises InvalidInput, NotFound."""
    check_name(name)
    if name == DEFAULT_NETWORK:
        ensure_default(ctx)
    try:
        found: Network | Broken = ctx.networks.load(name)
    except Broken as error:
        found = error
    return _seen(ctx, name, found, readable_vms(ctx))


def delete_network(ctx: Context, name: str) -> None:
    """Remove a network that no vm is on; raises InvalidInput, NotFound, NetworkInUse with the vms' names, Busy."""
    check_name(name)
    make_private_directory(ctx.layout.home)
    with locks.hold(ctx.layout.home_lock, f"network delete {name}", check=ctx.check):
        if not ctx.networks.exists(name):
            raise _default_stays() if name == DEFAULT_NETWORK else not_found(name, ctx.networks.names())
        if on_it := members(ctx, name):
            names = ", ".join(vm.name for vm, _ in on_it)
            raise NetworkInUse(
                f"vms are on the network {name}: {names}",
                hint=f"take them off (appcat vm network detach VM {name}), or delete them",
            )
        if name == DEFAULT_NETWORK and not _is_broken(ctx, name):
            raise _default_stays()
        ctx.networks.remove(name)
    record(ctx, EventKind.NETWORK_DELETED, network=name)


def _default_stays() -> NetworkInUse:
    return NetworkInUse(
        f"the network {DEFAULT_NETWORK} always exists",
        hint="to keep new vms off it: appcat config set network none",
    )


def ensure_default(ctx: Context) -> Network:
    """The network ``default``, made when it is not there yet; raises Broken, SubnetInUse, Busy, Unavailable."""
    if not ctx.networks.exists(DEFAULT_NETWORK):
        make_private_directory(ctx.layout.home)
        with locks.hold(ctx.layout.home_lock, f"network create {DEFAULT_NETWORK}", check=ctx.check):
            return network_for(ctx, DEFAULT_NETWORK)
    return ctx.networks.load(DEFAULT_NETWORK)


def network_for(ctx: Context, name: str) -> Network:
    """The network that a vm is to be on; ``default`` is made on demand. The caller holds the allocation lock.

    Raises InvalidInput, NotFound, Broken, SubnetInUse.
    """
    if name == DEFAULT_NETWORK and not ctx.networks.exists(name):
        return _make(ctx, NetworkRequest(name), None)
    return ctx.networks.load(name)


def members(ctx: Context, name: str) -> list[tuple[Vm, Attachment]]:
    """The vms on a network and their places there, by name; broken vms are on none."""
    return _members(readable_vms(ctx), name)


def readable_vms(ctx: Context) -> list[Vm]:
    """Every vm of the home that is not broken, by name."""
    found = []
    for name in ctx.store.names():
        with contextlib.suppress(AppcatError):
            found.append(ctx.store.load(name))
    return found


def check_new_name(name: str) -> str:
    """Return ``name`` when a network can have it; raises InvalidInput."""
    if check_name(name) == NO_NETWORK:
        raise InvalidInput(f"{name} stands for no network", hint="choose another name", code="invalid-name")
    return name


def free_subnet(taken: Iterable[Subnet]) -> Subnet | None:
    """The first automatic subnet that none of those ``taken`` overlaps; None when there is none left."""
    near = [subnet for subnet in taken if any(pool.overlaps(subnet) for pool in AUTOMATIC)]
    candidates = (subnet for pool in AUTOMATIC for subnet in pool.subnets(new_prefix=AUTOMATIC_PREFIX))
    return next((subnet for subnet in candidates if not any(subnet.overlaps(other) for other in near)), None)


def check_subnet_free(subnet: Subnet, networks: Sequence[Network], routes: Sequence[Route]) -> None:
    """Raise SubnetInUse, naming the owner, when a network cannot have ``subnet``."""
    if subnet.overlaps(Subnet(USER_NETWORK)):
        raise _taken(subnet, f"{USER_NETWORK}, through which every vm reaches its host")
    for network in networks:
        if network.range.overlaps(subnet):
            raise _taken(subnet, f"the network {network.name} ({network.subnet})")
    for route in overlapping(subnet, routes):
        raise _taken(subnet, f"a route of this host, {route}")


def _taken(subnet: Subnet, owner: str) -> SubnetInUse:
    return SubnetInUse(
        f"{subnet} overlaps {owner}", hint="give another subnet, or leave --subnet out: one that is free is taken then"
    )


def _make(ctx: Context, request: NetworkRequest, subnet: str | None) -> Network:
    """The caller holds the allocation lock."""
    routes = [] if request.twin else host_routes()
    networks = _sound(ctx)
    subnet = _members_subnet(ctx, request.name, subnet)
    if subnet is None:
        subnet = _automatic(networks, routes)
    elif not request.twin:
        check_subnet_free(Subnet(subnet), networks, routes)
    new = Network(request.name, subnet, request.internet, now(), user_name(), request.twin, dict(request.labels))
    ctx.networks.save(new)
    record(ctx, EventKind.NETWORK_CREATED, network=new.name, subnet=new.subnet)
    return new


def _sound(ctx: Context) -> list[Network]:
    return [found for found in ctx.networks.all().values() if isinstance(found, Network)]


def _members_subnet(ctx: Context, name: str, subnet: str | None) -> str | None:
    """The subnet asked for, or that of vms which are on the network already: its file was lost, their addresses stay.

    Raises InvalidInput when it has not all of their addresses.
    """
    theirs = [ipaddress.IPv4Address(place.address) for _, place in members(ctx, name)]
    if not theirs:
        return subnet
    subnet = subnet or str(Subnet((theirs[0], AUTOMATIC_PREFIX), strict=False))
    if outside := [str(address) for address in theirs if address not in Subnet(subnet)]:
        raise InvalidInput(
            f"vms that are on {name} already have addresses outside {subnet}: {', '.join(outside)}",
            hint="give the subnet that the network had (--subnet), or take them off: appcat vm network detach",
            code="invalid-subnet",
        )
    return subnet


def _automatic(networks: Sequence[Network], routes: Sequence[Route]) -> str:
    taken = [*(network.range for network in networks), *(route.subnet for route in routes), Subnet(USER_NETWORK)]
    found = free_subnet(taken)
    if found is None:
        pools = ", ".join(str(pool) for pool in AUTOMATIC)
        raise SubnetInUse(
            f"no subnet is free for a network: other networks and this host's routes take all of {pools}",
            hint="give one with --subnet, or repeat another network's, which stays apart: --twin NAME",
        )
    return str(found)


def _twins_subnet(ctx: Context, request: NetworkRequest, subnet: str | None) -> str:
    twin = network_for(ctx, check_name(request.twin))
    if subnet not in (None, twin.subnet):
        raise InvalidInput(
            f"the twin of {twin.name} has its subnet {twin.subnet}", hint="leave --subnet out", code="invalid-subnet"
        )
    return twin.subnet


def _seen(ctx: Context, name: str, found: Network | Broken, vms: Sequence[Vm]) -> SeenNetwork:
    on_it = tuple(_members(vms, name))
    if isinstance(found, Broken):
        return SeenNetwork(name, None, on_it, found.message)
    if found.twin and not _is_twin(ctx, found):
        found = dataclasses.replace(found, twin="")
    return SeenNetwork(name, found, on_it)


def _is_twin(ctx: Context, network: Network) -> bool:
    """Whether the network whose subnet it repeats is still there, and has not been made anew with another one."""
    try:
        return ctx.networks.load(network.twin).subnet == network.subnet
    except AppcatError:
        return False


def _members(vms: Sequence[Vm], name: str) -> list[tuple[Vm, Attachment]]:
    return [(vm, place) for vm in vms for place in vm.networks if place.network == name]


def _is_broken(ctx: Context, name: str) -> bool:
    try:
        ctx.networks.load(name)
    except Broken:
        return True
    return False
