"""The backend of Linux: kernel bridges and taps in a namespace of the user's own.

Frames never pass through this process. A port is a tap: its descriptor goes to QEMU, and the tap lives as long as QEMU
has that open. It is down until it is connected, and nothing in the namespace has an address.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import itertools
import os
import struct

from appcat.errors import NetworkError
from appcat.switch import namespace
from appcat.switch.files import Files, boot_id, write
from appcat.switch.netlink import Link, Links

TUN = "/dev/net/tun"
_TUNSETIFF = 0x400454CA
_TAP, _NO_PI, _VNET_HDR = 0x0002, 0x1000, 0x4000
_REQUEST = struct.Struct("16sH22x")
# Every bridge is told by its alias: a network's has the name of that, one says whose namespace this is.
_KIND, _NETWORK, MARKER = "bridge", "net", "home"
SETTINGS = {
    "ipv6/conf/all/disable_ipv6": "1",
    "ipv6/conf/default/disable_ipv6": "1",
    "bridge/bridge-nf-call-iptables": "0",
    "bridge/bridge-nf-call-ip6tables": "0",
    "bridge/bridge-nf-call-arptables": "0",
}


class Bridge:
    """The namespace of one home, this process being in it. Raises OSError when it cannot be made."""

    name = "bridge"

    def __init__(self, files: Files) -> None:
        self.adopted = _settle(files)
        self._namespaces = namespace.own()
        self._links = Links()
        if not self.adopted:
            _calm()
            self._links.add_bridge(MARKER, files.root)
            write(files.namespace, f"{boot_id()} {namespace.inode(self._namespaces[0])}")

    def open(self, names: list[str]) -> tuple[list[dict[str, object]], list[int]]:
        """Taps, down and in no bridge: what to tell about each, and descriptors of the namespaces and the taps."""
        taps: list[int] = []
        try:
            for name in names:
                taps.append(open_tap(name))
        except BaseException:
            for tap in taps:
                os.close(tap)
            raise
        return [{} for _ in taps], [*map(os.dup, self._namespaces), *taps]

    def connect(self, joins: list[tuple[str, str]]) -> None:
        """Put taps into the bridges of their networks, which are made where they are not there."""
        links = self._links.all()
        for port, network in joins:
            if port not in links:
                raise NetworkError(f"the switch has no port {port}", hint="is its vm still running?")
            self._links.join(links[port], self._bridge(network, links))

    def forget(self, names: list[str]) -> None:
        """A tap is gone with the QEMU that had it."""

    def look(self) -> dict[str, list[str]]:
        """The connected ports of each network."""
        return look(self._links)

    def living(self) -> int:
        """How many ports there are; takes away bridges that have none."""
        links = self._links.all()
        masters = {link.master for link in links.values()}
        for link in links.values():
            if is_network(link) and link.index not in masters:
                self._links.remove(link)
        return sum(link.kind == "tun" for link in links.values())

    def _bridge(self, network: str, links: dict[str, Link]) -> Link:
        for link in links.values():
            if is_network(link) and link.alias == network:
                return link
        name = next(name for number in itertools.count() if (name := f"{_NETWORK}{number}") not in links)
        self._links.add_bridge(name, network)
        links.update(self._links.all())
        return links[name]


def open_tap(name: str) -> int:
    """The descriptor of a new tap, down; raises OSError, NetworkError (port-busy) when another process has it."""
    descriptor = os.open(TUN, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(descriptor, _TUNSETIFF, _REQUEST.pack(name.encode(), _TAP | _NO_PI | _VNET_HDR))
    except OSError as error:
        os.close(descriptor)
        if error.errno == errno.EBUSY:
            raise NetworkError(f"the port {name} is in use", hint="wait for its vm to end", code="port-busy") from error
        raise
    return descriptor


def look(links: Links) -> dict[str, list[str]]:
    """The connected ports of each network, as the kernel has them."""
    found = links.all()
    networks = {link.index: link.alias for link in found.values() if is_network(link)}
    ports: dict[str, list[str]] = {network: [] for network in networks.values()}
    for link in found.values():
        if link.master in networks:
            ports[networks[link.master]].append(link.name)
    return {network: sorted(names) for network, names in ports.items() if names}


def is_network(link: Link) -> bool:
    """Whether it is a network's bridge."""
    return link.kind == _KIND and link.name.startswith(_NETWORK)


def find(files: Files) -> int | None:
    """The namespace that a switch of this home made earlier, when a QEMU still has it open."""
    inode = files.boot_inode()
    return namespace.find(inode, lambda: _is_marked(files)) if inode else None


def _is_marked(files: Files) -> bool:
    marker = Links().all().get(MARKER)
    return marker is not None and marker.alias == files.root


def _settle(files: Files) -> bool:
    """Be in this home's namespace; True when it was there already."""
    found = find(files)
    if found is None:
        namespace.unshare(namespace.NEW_USER | namespace.NEW_NET)
        return False
    namespace.enter(found)
    os.close(found)
    return True


def _calm() -> None:
    """Where /proc can be written: no addresses of the host's side on any network, and no firewall in the bridges.

    Of the latter there is none to pass, but without this every IPv4 header would be checked, and odd ones dropped.
    """
    for setting, value in SETTINGS.items():
        with contextlib.suppress(OSError), open(f"/proc/sys/net/{setting}", "w", encoding="ascii") as file:
            file.write(value)
