"""Port forwards: a port of the host that leads into a guest."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from enum import StrEnum

from appcat.errors import InvalidInput
from appcat.model.name import shorten

LOOPBACK = "127.0.0.1"
LARGEST_PORT = 65535


class Protocol(StrEnum):
    """Transport protocols that user-mode networking can forward."""

    TCP = "tcp"
    UDP = "udp"


@dataclass(frozen=True)
class PortForward:
    """Connections to ``host`` on ``address`` of this computer reach ``guest`` inside the vm."""

    host: int
    guest: int
    address: str = LOOPBACK
    protocol: Protocol = Protocol.TCP

    def __str__(self) -> str:
        suffix = "/udp" if self.protocol is Protocol.UDP else ""
        return f"{self.address}:{self.host}:{self.guest}{suffix}"

    def clashes(self, other: PortForward) -> bool:
        """Whether the host could not give both at the same time."""
        same_port = (self.host, self.protocol) == (other.host, other.protocol)
        return same_port and (self.address == other.address or "0.0.0.0" in (self.address, other.address))


def parse_forward(text: str) -> PortForward:
    """Read ``[ADDR:]HOST:GUEST[/udp|/tcp]``; the address is IPv4 and 127.0.0.1 unless given; raises InvalidInput."""
    body, slash, protocol = text.partition("/")
    parts = body.split(":")
    if len(parts) not in (2, 3) or (slash and protocol not in list(Protocol)):
        raise _invalid(text)
    address = parts[0] if len(parts) == 3 else LOOPBACK
    try:
        ipaddress.IPv4Address(address)
    except ValueError as error:
        raise _invalid(text) from error
    host, guest = (_port(part, text) for part in parts[-2:])
    return PortForward(host, guest, address, Protocol(protocol or "tcp"))


def check_port_number(number: int) -> int:
    """Return ``number`` when a port can have it; raises InvalidInput."""
    if 1 <= number <= LARGEST_PORT:
        return number
    raise InvalidInput(f"{number} is not a port", hint=f"give a number from 1 to {LARGEST_PORT}", code="invalid-port")


def check_distinct(forwards: tuple[PortForward, ...]) -> None:
    """Raise InvalidInput when two forwards of one vm want the same host port."""
    for index, forward in enumerate(forwards):
        for other in forwards[:index]:
            if forward.clashes(other):
                raise InvalidInput(f"{forward} and {other} want the same host port", hint="publish each host port once")


def _port(text: str, whole: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= LARGEST_PORT:
        return int(text)
    raise _invalid(whole)


def _invalid(text: str) -> InvalidInput:
    return InvalidInput(
        f"{shorten(text)} is not a port forward",
        hint="write [ADDRESS:]HOST:GUEST[/udp] with ports from 1 to 65535, such as 8080:80 or 127.0.0.2:53:53/udp",
        code="invalid-port",
    )
