"""Private networks (segments), and what a vm has on one."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from appcat.errors import InvalidInput
from appcat.model.name import check_name, shorten

SCHEMA = 1
DEFAULT_NETWORK = "default"
NO_NETWORK = "none"
DOMAIN = "appcat"
MOST_NETWORKS = 4

# Automatic subnets are taken from here, one /24 each; given ones lie in private address space (RFC 1918).
AUTOMATIC = ipaddress.IPv4Network("10.77.0.0/16")
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
