"""What the host's own routing table leads to: a private network must not hide it from the host's guests, nor it that.

Sources: proc(5) for /proc/net/route (hexadecimal, in the host's own byte order); netstat(1) of macOS, whose ``netname``
leaves out trailing zero bytes, and the prefix where it is that of the address's old class.
"""

from __future__ import annotations

import ipaddress
import logging
import re
import socket
import struct
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from appcat.command import run
from appcat.errors import AppcatError

log = logging.getLogger(__name__)

TABLE = Path("/proc/net/route")
NETSTAT = ("netstat", "-rn", "-f", "inet")
PATIENCE = 10.0
UP, REJECT = 0x1, 0x200
# VPNs lay the default route in pieces, such as 0.0.0.0/1 and 128.0.0.0/1: what leads to so much leads to no one place.
SHORTEST_PREFIX = 8

Subnet = ipaddress.IPv4Network


@dataclass(frozen=True)
class Route:
    """A part of the address space that the host reaches through ``interface``."""

    subnet: Subnet
    interface: str

    def __str__(self) -> str:
        return f"{self.subnet} ({self.interface})"


def host_routes() -> list[Route]:
    """The host's routes but for the default one; none where the system does not tell."""
    try:
        if sys.platform == "darwin":
            return parse_netstat(run(NETSTAT, timeout=PATIENCE))
        return parse_proc(TABLE.read_text(encoding="ascii", errors="replace"))
    except (OSError, AppcatError) as error:
        log.warning("the host's routes cannot be read: %s", error)
        return []


def overlapping(subnet: Subnet, routes: Iterable[Route]) -> list[Route]:
    """Those of ``routes`` that lead into ``subnet``, or of which it is a part."""
    return [route for route in routes if route.subnet.overlaps(subnet)]


def parse_proc(text: str) -> list[Route]:
    """The routes in /proc/net/route."""
    found = [_proc_route(line.split()) for line in text.splitlines()[1:]]
    return [route for route in found if route]


def parse_netstat(text: str) -> list[Route]:
    """The routes that macOS's ``netstat -rn -f inet`` prints."""
    rows = [line.split() for line in text.splitlines()]
    header: Sequence[str] = next((row for row in rows if row[:1] == ["Destination"]), [])
    if "Netif" not in header:
        return []
    flags, interface = header.index("Flags"), header.index("Netif")
    found = [
        _route(_netstat_subnet(row[0], row[flags]), row[interface])
        for row in rows
        if len(row) > interface and row is not header
    ]
    return [route for route in found if route]


def _proc_route(words: Sequence[str]) -> Route | None:
    try:
        interface, destination, flags, mask = words[0], words[1], int(words[3], 16), words[7]
        subnet = Subnet(f"{_dotted(destination)}/{_dotted(mask)}", strict=False)
    except (IndexError, ValueError, struct.error):
        return None
    return _route(subnet, interface) if flags & UP and not flags & REJECT else None


def _dotted(word: str) -> str:
    return socket.inet_ntoa(struct.pack("=L", int(word, 16)))


def _route(subnet: Subnet | None, interface: str) -> Route | None:
    if subnet is None or subnet.prefixlen < SHORTEST_PREFIX or subnet.is_multicast:
        return None
    return Route(subnet, interface)


def _netstat_subnet(text: str, flags: str) -> Subnet | None:
    address, slash, prefix = text.partition("/")
    if not re.fullmatch(r"\d+(\.\d+){0,3}", address):
        return None
    octets = [*address.split("."), "0", "0", "0"][:4]
    if not slash:
        prefix = "32" if "H" in flags or address.count(".") == 3 else _class_prefix(int(octets[0]))
    try:
        return Subnet(f"{'.'.join(octets)}/{prefix}", strict=False)
    except ValueError:
        return None


def _class_prefix(first: int) -> str:
    if first < 128:
        return "8"
    return "16" if first < 192 else "24"
