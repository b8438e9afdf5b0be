"""Port forwards: a port of the host that leads into a guest.

A port is published at a stated place (``HOST:GUEST``), or by its own number alone (``2376``): then it is on the vm's
own address, where ports of other vms cannot be in its way. Where on the host that is, ``PortForward.places`` says: the
vm's address may change, so it is never written down with the port.
"""

from __future__ import annotations

import dataclasses
import ipaddress
from dataclasses import dataclass
from enum import StrEnum

from appcat.errors import InvalidInput
from appcat.model.name import shorten

LOOPBACK = "127.0.0.1"
OWN = "own"
SSH_PORT = 22
LARGEST_PORT = 65535
# Ports below this one need a privilege on most hosts; on a vm's own address they are also at their number + HIGHER.
LOW = 1024
HIGHER = 20000


class Protocol(StrEnum):
    """Transport protocols that user-mode networking can forward."""

    TCP = "tcp"
    UDP = "udp"


@dataclass(frozen=True)
class PortForward:
    """Connections to ``host`` on ``address`` of this computer reach ``guest`` inside the vm.

    With the address ``OWN`` it is published by its number, ``guest``; ``host`` is then the port of 127.0.0.1 that it
    has where the vm has no address of its own.
    """

    host: int
    guest: int
    address: str = LOOPBACK
    protocol: Protocol = Protocol.TCP

    def __str__(self) -> str:
        suffix = "/udp" if self.protocol is Protocol.UDP else ""
        return f"{self.guest}{suffix}" if self.is_own else f"{self.address}:{self.host}:{self.guest}{suffix}"

    @property
    def is_own(self) -> bool:
        """Whether it is published by its number."""
        return self.address == OWN

    def same(self, other: PortForward) -> bool:
        """Whether both are the same wish; of one that is published by its number, the number is all of it."""
        if self.is_own and other.is_own:
            return (self.guest, self.protocol) == (other.guest, other.protocol)
        return self == other

    def places(self, address: str, low: int = LOW) -> tuple[PortForward, ...]:
        """Where it is on the host when the vm's own address is ``address`` (empty: it has none).

        The first place it is sure to have. The second, its own number where that is below ``low``, it has if the host
        lets this user have it.
        """
        if not self.is_own:
            return (self,)
        if not address:
            return (dataclasses.replace(self, address=LOOPBACK),)
        direct = dataclasses.replace(self, address=address, host=self.guest)
        if self.guest >= low or self.guest + HIGHER > LARGEST_PORT:
            return (direct,)
        return (dataclasses.replace(direct, host=self.guest + HIGHER), direct)

    def clashes(self, other: PortForward) -> bool:
        """Whether the host could not give both at the same time."""
        same_port = (self.host, self.protocol) == (other.host, other.protocol)
        return same_port and (self.address == other.address or "0.0.0.0" in (self.address, other.address))


def own_forward(number: int, protocol: Protocol = Protocol.TCP) -> PortForward:
    """Port ``number`` of the guest, published by its number."""
    return PortForward(number, number, OWN, protocol)


# The guest's SSH server, as if it had been published like any other port.
SSH = own_forward(SSH_PORT)


def parse_forward(text: str) -> PortForward:
    """Read ``PORT[/udp|/tcp]`` or ``[ADDR:]HOST:GUEST[/udp|/tcp]``; raises InvalidInput.

    A port alone is published by its number. The address is IPv4, and 127.0.0.1 unless given.
    """
    body, slash, protocol = text.partition("/")
    parts = body.split(":")
    if len(parts) > 3 or (slash and protocol not in list(Protocol)):
        raise _invalid(text)
    if len(parts) == 1:
        return own_forward(_port(body, text), Protocol(protocol or "tcp"))
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


def check_distinct(forwards: tuple[PortForward, ...], ssh: PortForward = SSH, address: str = OWN) -> None:
    """Raise InvalidInput when two forwards of one vm want the same host port, or one wants that of its SSH server.

    ``ssh`` and ``address`` are the vm's, where they are known already.
    """
    for index, forward in enumerate(forwards):
        if forward.same(SSH):
            raise InvalidInput("port 22 of a guest, its SSH server's, is published already", hint="leave it out")
        for other in (ssh, *forwards[:index]):
            if forward.same(other) or forward.places(address)[0].clashes(other.places(address)[0]):
                name = "SSH" if other is ssh else str(other)
                raise InvalidInput(f"{forward} and {name} want the same host port", hint="publish each host port once")


def _port(text: str, whole: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= LARGEST_PORT:
        return int(text)
    raise _invalid(whole)


def _invalid(text: str) -> InvalidInput:
    return InvalidInput(
        f"{shorten(text)} is not a port forward",
        hint="write PORT or [ADDRESS:]HOST:GUEST, such as 80, 8080:80 or 127.0.0.2:53:53/udp; ports are 1 to 65535",
        code="invalid-port",
    )
