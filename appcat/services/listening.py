"""What listens on this host, whoever it belongs to, and below which port this user may not.

Read from the kernel's own tables, so a look takes no port from anybody, not even for a moment.
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from appcat.model.loopback import CLAIM_PORTS
from appcat.model.port import LOW, PortForward, Protocol

PROC = Path("/proc")
_LISTENS = {Protocol.TCP: "0A", Protocol.UDP: "07"}  # in the column "st": TCP_LISTEN; UDP without a peer
_ANY_IPV6 = "0" * 32
_MAPPED = "0000000000000000FFFF0000"  # ::ffff:0:0/96, in the table's order of bytes
_ANY = "0.0.0.0"
_BIND_CAPABILITY = 10  # CAP_NET_BIND_SERVICE


class Listening:
    """The ports that are listened on, as of the first question."""

    def __init__(self, proc: Path = PROC) -> None:
        self._proc = proc

    def has(self, place: PortForward) -> bool:
        """Whether somebody listens on just this address and port."""
        return (place.protocol, place.address, place.host) in self._found

    def on_every_address(self, place: PortForward) -> bool:
        """Whether somebody listens on this port of all addresses, so that nobody else can on one of them."""
        return (place.protocol, _ANY, place.host) in self._found

    def is_claimed(self, address: str) -> bool:
        """Whether this address is a running vm's (``model.loopback``)."""
        return address in self._claimed

    @functools.cached_property
    def _found(self) -> set[tuple[Protocol, str, int]]:
        tables = ((protocol, f"{protocol}{version}") for protocol in Protocol for version in ("", "6"))
        return {(protocol, *place) for protocol, table in tables for place in self._read(protocol, table)}

    @functools.cached_property
    def _claimed(self) -> set[str]:
        return {address for protocol, address, port in self._found if protocol is Protocol.TCP and port in CLAIM_PORTS}

    def _read(self, protocol: Protocol, table: str) -> Iterator[tuple[str, int]]:
        """The lines of proc(5)'s ``net/tcp`` and its like: number, local address, peer, state ..."""
        with contextlib.suppress(OSError), (self._proc / "net" / table).open(encoding="ascii") as lines:
            next(lines, None)
            for line in lines:
                words = line.split(maxsplit=4)
                if len(words) > 3 and words[3] == _LISTENS[protocol]:
                    address, _, port = words[1].partition(":")
                    if (dotted := _ipv4(address)) is not None:
                        yield dotted, int(port, 16)


def _ipv4(hexadecimal: str) -> str | None:
    """The IPv4 address that a socket on this one takes; None for one that is IPv6 alone."""
    if hexadecimal == _ANY_IPV6:  # takes IPv4 as well, unless it was asked not to
        return _ANY
    if len(hexadecimal) > 8 and not hexadecimal.startswith(_MAPPED):
        return None
    return socket.inet_ntoa(struct.pack("=I", int(hexadecimal[-8:], 16)))


def lowest_port(proc: Path = PROC) -> int:
    """The lowest port that every user of this host may listen on."""
    with contextlib.suppress(OSError, ValueError):
        return int((proc / "sys/net/ipv4/ip_unprivileged_port_start").read_text())
    return LOW


def low_limit(proc: Path = PROC) -> int:
    """Numbers below are low on this host: had in their own place only where that is allowed."""
    return max(LOW, lowest_port(proc))


def may_listen(port: int, proc: Path = PROC) -> bool:
    """Whether this user may listen on ``port``, as far as one can know without trying."""
    return port >= lowest_port(proc) or _may_bind_all(proc)


def _may_bind_all(proc: Path) -> bool:
    """Whether a program started by this process would have the capability: root's passes on, others' if ambient."""
    key = "CapEff:" if os.geteuid() == 0 else "CapAmb:"
    with contextlib.suppress(OSError, ValueError):
        for line in (proc / "self/status").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith(key):
                return bool(int(line.removeprefix(key), 16) >> _BIND_CAPABILITY & 1)
    return os.geteuid() == 0
