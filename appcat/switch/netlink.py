"""The kernel's network interfaces, by rtnetlink(7): bridges are made, taps are joined to them, all are listed."""

from __future__ import annotations

import os
import socket
import struct

_NEWLINK, _DELLINK, _GETLINK = 16, 17, 18
_REQUEST, _ACK, _EXCLUSIVE, _CREATE, _DUMP = 0x1, 0x4, 0x200, 0x400, 0x300
_ERROR, _DONE = 2, 3
_NAME, _MASTER, _LINKINFO, _ALIAS = 3, 10, 18, 20
_INFO_KIND, _INFO_DATA = 1, 2
_MULTICAST_SNOOPING = 23
_TYPE_MASK = 0x3FFF  # two bits of an attribute's type are flags
_UP = 0x1
_HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BxHiII")
_ATTRIBUTE = struct.Struct("=HH")


class Link:
    """One interface: ``kind`` is bridge or tun among others, ``alias`` free text, ``master`` the bridge it is in."""

    __slots__ = ("alias", "index", "kind", "master", "name")

    def __init__(self, index: int, attributes: dict[int, bytes]) -> None:
        info = _attributes(attributes.get(_LINKINFO, b""))
        self.index = index
        self.name = _text(attributes.get(_NAME, b""))
        self.alias = _text(attributes.get(_ALIAS, b""))
        self.kind = _text(info.get(_INFO_KIND, b""))
        self.master = int.from_bytes(attributes.get(_MASTER, b""), "little")


class Links:
    """The interfaces of the network namespace that this was made in. What the kernel refuses raises OSError."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))

    def close(self) -> None:
        """Done."""
        self._socket.close()

    def all(self) -> dict[str, Link]:
        """By name."""
        answers = self._ask(_GETLINK, _DUMP, _LINK.pack(0, 0, 0, 0, 0))
        links = [Link(_LINK.unpack_from(body)[2], _attributes(body[_LINK.size :])) for body in answers]
        return {link.name: link for link in links}

    def add_bridge(self, name: str, alias: str) -> None:
        """Make a bridge, up, that floods multicast as it does broadcast: nobody here would answer for a querier."""
        data = _attribute(_MULTICAST_SNOOPING, b"\0")
        info = _attribute(_INFO_KIND, b"bridge") + _attribute(_INFO_DATA, data)
        attributes = _attribute(_NAME, name.encode() + b"\0") + _attribute(_LINKINFO, info)
        self._ask(_NEWLINK, _ACK | _CREATE | _EXCLUSIVE, _LINK.pack(0, 0, 0, 0, 0) + attributes)
        self._change(self.all()[name].index, _attribute(_ALIAS, alias.encode()))

    def join(self, link: Link, bridge: Link) -> None:
        """Put ``link`` into ``bridge``, out of any other, and bring it up."""
        self._change(link.index, _attribute(_MASTER, struct.pack("=I", bridge.index)))

    def remove(self, link: Link) -> None:
        """Take an interface away."""
        self._ask(_DELLINK, _ACK, _LINK.pack(0, 0, link.index, 0, 0))

    def _change(self, index: int, attributes: bytes) -> None:
        self._ask(_NEWLINK, _ACK, _LINK.pack(0, 0, index, _UP, _UP) + attributes)

    def _ask(self, kind: int, flags: int, body: bytes) -> list[bytes]:
        self._socket.send(_HEADER.pack(_HEADER.size + len(body), kind, flags | _REQUEST, 1, 0) + body)
        answers: list[bytes] = []
        while True:
            data = self._socket.recv(1 << 17)
            while data:
                size, kind, _, _, _ = _HEADER.unpack_from(data)
                body, data = data[_HEADER.size : size], data[_padded(size) :]
                if kind == _ERROR:
                    _raise(int.from_bytes(body[:4], "little", signed=True))
                if kind in (_ERROR, _DONE):
                    return answers
                answers.append(body)


def _raise(code: int) -> None:
    if code:
        raise OSError(-code, os.strerror(-code))


def _padded(size: int) -> int:
    return size + 3 & ~3


def _attribute(kind: int, value: bytes) -> bytes:
    size = _ATTRIBUTE.size + len(value)
    return (_ATTRIBUTE.pack(size, kind) + value).ljust(_padded(size), b"\0")


def _attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    while len(data) >= _ATTRIBUTE.size:
        size, kind = _ATTRIBUTE.unpack_from(data)
        if size < _ATTRIBUTE.size:
            break
        found[kind & _TYPE_MASK] = data[_ATTRIBUTE.size : size]
        data = data[_padded(size) :]
    return found


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")
