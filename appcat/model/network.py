"""Private networks (segments), and what a vm has on one."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from appcat.errors import InvalidInput
from appcat.model.name import check_name, shorten

SCHEMA = 1
DEFAULT_NETWORK = "default"
NO_NETWORK = "none"
DOMAIN = "appcat"
MOST_NETWORKS = 4

# Automatic subnets are taken from the first of these that has room, one /24 each: a VPN may have routes for all of one.
# Given ones lie in private address space (RFC 1918).
AUTOMATIC = tuple(ipaddress.IPv4Network(text) for text in ("10.77.0.0/16", "172.27.0.0/16", "192.168.128.0/17"))
AUTOMATIC_PREFIX = 24
PRIVATE = tuple(ipaddress.IPv4Network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))
SHORTEST_PREFIX, LONGEST_PREFIX = 16, 29


@dataclass(frozen=True)
class Network:
    """A private segment: what ``networks/NAME.json`` holds.

    ``subnet`` is ``A.B.C.D/PREFIX``; its first address is given to nobody. Without ``internet``, vms that are on no
    other network have no way out. ``twin`` names the network whose subnet this one repeats, for forks that keep
    their addresses.
    """

    name: str
    subnet: str
    internet: bool = True
    created: str = ""
    owner: str = ""
    twin: str = ""
    labels: dict[str, str] = field(default_factory=dict)

    @property
    def range(self) -> ipaddress.IPv4Network:
        """The subnet, to reckon with."""
        return ipaddress.IPv4Network(self.subnet)

    @property
    def prefix(self) -> int:
        """The length of the subnet's prefix, in bits."""
        return self.range.prefixlen


@dataclass(frozen=True)
class Attachment:
    """A vm's place on a network: its MAC and address there, its own for as long as it is attached.

    ``slot`` decides where its network card sits on the machine (``model.machine.nic_port``), from 0.
    """

    network: str
    mac: str
    address: str
    slot: int


@dataclass(frozen=True)
class Joining:
    """A wish to be on a network, at ``address`` if one is given: ``NAME[:IP]``."""

    network: str
    address: str = ""

    def __str__(self) -> str:
        return f"{self.network}:{self.address}" if self.address else self.network


def parse_joining(text: str) -> Joining:
    """Read ``NAME[:IP]``; raises InvalidInput."""
    name, colon, address = text.partition(":")
    check_name(name)
    if not colon:
        return Joining(name)
    return Joining(name, check_address(address))


def parse_joinings(texts: Sequence[str]) -> tuple[Joining, ...]:
    """Read ``NAME[:IP]`` texts, each of which may be several with commas between; ``none`` alone means no network.

    Raises InvalidInput.
    """
    parts = [part.strip() for text in texts for part in text.split(",")]
    if parts == [NO_NETWORK]:
        return ()
    if NO_NETWORK in parts:
        raise InvalidInput("a vm cannot be on no network and on one", hint=f"give {NO_NETWORK}, or networks")
    return tuple(parse_joining(part) for part in parts)


def parse_networks(text: str) -> tuple[Joining, ...]:
    """Read what a setting says: names of networks with commas between, or ``none``; raises InvalidInput."""
    joinings = parse_joinings([text])
    if given := [joining for joining in joinings if joining.address]:
        raise InvalidInput(
            f"{given[0]} has an address: several vms cannot have the same one",
            hint=f"give names of networks, such as {DEFAULT_NETWORK}, or {NO_NETWORK}",
        )
    check_distinct_networks(joinings)
    return joinings


def check_distinct_networks(joinings: Iterable[Joining]) -> None:
    """Raise InvalidInput when they are too many for one vm, or name a network twice."""
    names = [joining.network for joining in joinings]
    for name in names:
        if names.count(name) > 1:
            raise InvalidInput(f"the network {name} is given twice", hint="a vm has one place on a network")
    if len(names) > MOST_NETWORKS:
        raise InvalidInput(f"a vm can be on {MOST_NETWORKS} networks, not on {len(names)}", hint="leave some out")


def check_address(text: str) -> str:
    """Return ``text`` when it is an IPv4 address in dotted form; raises InvalidInput."""
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError as error:
        raise InvalidInput(
            f"{shorten(text)} is not an IPv4 address",
            hint="write four numbers, such as 10.77.0.10",
            code="invalid-address",
        ) from error


def parse_subnet(text: str) -> str:
    """Read ``A.B.C.D/PREFIX``, a private subnet of between 6 and 65,534 addresses; raises InvalidInput."""
    try:
        subnet = ipaddress.IPv4Network(text)
    except ValueError as error:
        raise _invalid_subnet(text, str(error)) from error
    if not SHORTEST_PREFIX <= subnet.prefixlen <= LONGEST_PREFIX:
        raise _invalid_subnet(text, f"its prefix is not between /{SHORTEST_PREFIX} and /{LONGEST_PREFIX}")
    if not any(subnet.subnet_of(private) for private in PRIVATE):
        raise _invalid_subnet(text, "it is not in 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16")
    return str(subnet)


def _invalid_subnet(text: str, why: str) -> InvalidInput:
    return InvalidInput(
        f"{shorten(text)} is not a subnet for a network: {why}",
        hint="write a private one with its prefix, such as 10.77.1.0/24",
        code="invalid-subnet",
    )
