"""Places on networks: who has which address and MAC there, and who gets the next ones.

All of it is in the vms' own files; whoever gives out something holds the allocation lock (``home.lock``) from the look
at them until the new place is written down.
"""

from __future__ import annotations

import ipaddress
import itertools
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from appcat.errors import Conflict, InvalidInput, NotFound, Unavailable
from appcat.model.network import (
    DEFAULT_NETWORK,
    MOST_NETWORKS,
    Attachment,
    Joining,
    Network,
    check_address,
    check_distinct_networks,
)
from appcat.model.vm import Vm
from appcat.services import templates
from appcat.services.context import Context
from appcat.services.networks import network_for, readable_vms


class AddressInUse(Conflict):
    """The address is somebody's on that network."""

    code = "address-in-use"


class NetworkFull(Conflict):
    """No address of the subnet is left."""

    code = "network-full"


@dataclass
class Book:
    """Who has what: the vm with each address of each network, and every MAC of the home; noted there as given out."""

    owners: dict[str, dict[str, str]] = field(default_factory=dict)
    macs: set[str] = field(default_factory=set)

    def note(self, vm: str, place: Attachment) -> None:
        """From now on ``vm`` has this place."""
        self.owners.setdefault(place.network, {})[place.address] = vm
        self.macs.add(place.mac)

    def owner(self, network: str, address: str) -> str:
        """The vm that has the address, or nothing."""
        return self.owners.get(network, {}).get(address, "")


def read_book(ctx: Context) -> Book:
    """What the vms of this home have now."""
    book = Book()
    for vm in readable_vms(ctx):
        book.macs |= {nic.mac for nic in vm.nics}
        for place in vm.networks:
            book.note(vm.name, place)
    return book


def place(
    ctx: Context,
    joinings: Sequence[Joining],
    have: Sequence[Attachment] = (),
    *,
    vm: str,
    book: Book | None = None,
) -> tuple[Attachment, ...]:
    """Places for a vm called ``vm`` beside those that it ``has`` already: addresses as asked for, or the lowest free.

    The caller holds the allocation lock, and gives the same ``book`` for vms that are not written down yet. The network
    ``default`` is made on demand. Raises InvalidInput (also for a network and its twin), NotFound, AddressInUse
    with the owner, NetworkFull, Broken; Unavailable for a vm that is there already and cannot be told of networks.
    """
    if not joinings:
        return ()
    check_image(ctx, vm)
    check_distinct_networks([*(Joining(place.network) for place in have), *joinings])
    networks = [network_for(ctx, joining.network) for joining in joinings]
    check_apart(networks, have)
    book = book or read_book(ctx)
    slots = (slot for slot in range(MOST_NETWORKS) if slot not in {place.slot for place in have})
    return tuple(
        _place(book, network, joining, vm, next(slots)) for network, joining in zip(networks, joinings, strict=True)
    )


def check(ctx: Context, joinings: Sequence[Joining]) -> None:
    """Refuse what ``place`` would of a new vm, without a lock and without making anything; raises as it does."""
    check_distinct_networks(joinings)
    if not joinings:
        return
    book, networks = read_book(ctx), []
    for joining in joinings:
        if joining.network == DEFAULT_NETWORK and not ctx.networks.exists(DEFAULT_NETWORK):
            continue  # it will be made, with all of its addresses free
        networks.append(ctx.networks.load(joining.network))
        pick_address(book, networks[-1], joining)
    check_apart(networks)


def check_apart(networks: Sequence[Network], have: Sequence[Attachment] = ()) -> None:
    """Raise InvalidInput when a vm, which may have places already, could not tell these networks apart by address."""
    clashes = [pair for pair in itertools.combinations(networks, 2) if pair[0].range.overlaps(pair[1].range)]
    names = [(one.name, other.name, other.subnet) for one, other in clashes]
    names += [
        (place.network, network.name, network.subnet)
        for place in have
        for network in networks
        if ipaddress.IPv4Address(place.address) in network.range
    ]
    for one, other, subnet in names:
        raise InvalidInput(
            f"the networks {one} and {other} have the same addresses ({subnet}): a vm can be on one of them only",
            hint="leave one out; a network of its own subnet: appcat network create NAME",
        )


def pick_address(book: Book, network: Network, joining: Joining) -> str:
    """The address asked for, or the lowest free one: the first and last of a subnet, and the one after the first, are
    nobody's. Raises InvalidInput, AddressInUse, NetworkFull.
    """
    if not joining.address:
        return _lowest_free(network, book.owners.get(network.name, {}))
    address = ipaddress.IPv4Address(check_address(joining.address))
    if not _first(network) <= address <= _last(network):
        raise InvalidInput(
            f"{address} is not an address that a vm can have on {network.name} ({network.subnet})",
            hint=f"give one from {_first(network)} to {_last(network)}",
            code="invalid-address",
        )
    if owner := book.owner(network.name, str(address)):
        raise AddressInUse(
            f"{address} is taken on the network {network.name}: {owner} has it",
            hint="give another one, or none: the next free one is taken then",
        )
    return str(address)


def check_image(ctx: Context, name: str) -> None:
    """Raise Unavailable when there is such a vm and its image is older than private networks."""
    if ctx.layout.vm(name).spec.exists():
        vm = ctx.store.load(name)
        stored = templates.image_of(ctx, vm.template.image)
        if stored is not None and not stored.image.knows_networks:
            raise too_old(vm)


def too_old(vm: Vm) -> Unavailable:
    """The error for a vm whose guest program does not know private networks."""
    return Unavailable(
        f"{vm.name} was made before appcat had private networks: its guest cannot be told of one",
        hint="make a new vm, which gets the template as it is now",
    )


def random_mac(taken: Collection[str] = ()) -> str:
    """A locally administered unicast address with QEMU's customary prefix, not one of those ``taken``."""
    while True:
        mac = ":".join(["52", "54", "00", *(f"{byte:02x}" for byte in secrets.token_bytes(3))])
        if mac not in taken:
            return mac


def internet_of(ctx: Context, vm: Vm) -> bool:
    """Whether the vm has a way out: not when it is on networks and none of them has one. Raises NotFound, Broken."""
    networks = [network_of(ctx, place) for place in vm.networks]
    return not networks or any(network.internet for network in networks)


def network_of(ctx: Context, place: Attachment) -> Network:
    """The network of a place that a vm has; raises NotFound, Broken, saying how to do without it."""
    try:
        return ctx.networks.load(place.network)
    except NotFound as error:
        error.hint = f"make it again (appcat network create {place.network}), or take vms off: appcat vm network detach"
        raise


def _place(book: Book, network: Network, joining: Joining, vm: str, slot: int) -> Attachment:
    given = Attachment(network.name, random_mac(book.macs), pick_address(book, network, joining), slot)
    book.note(vm, given)
    return given


def _lowest_free(network: Network, owners: Collection[str]) -> str:
    first, last = int(_first(network)), int(_last(network))
    for number in range(first, last + 1):
        address = str(ipaddress.IPv4Address(number))
        if address not in owners:
            return address
    raise NetworkFull(
        f"no address is left on the network {network.name} ({network.subnet})",
        hint="take a vm off it, or make a larger network: appcat network create NAME --subnet 10.78.0.0/16",
    )


def _first(network: Network) -> ipaddress.IPv4Address:
    return network.range.network_address + 2


def _last(network: Network) -> ipaddress.IPv4Address:
    return network.range.broadcast_address - 1
