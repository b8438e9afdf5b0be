"""The backend for hosts without bridges: frames come and go by unix datagrams, and this process passes them on.

QEMU's ``dgram`` backend binds ``PORT.vm`` and sends to ``PORT.hub`` by name, each time: a hub that was killed is
missed only until the next one has bound those names again. Which network a port is on is in ``PORT.port``.
"""

from __future__ import annotations

import selectors
import socket
import sys
import time

from appcat.errors import NetworkError
from appcat.switch.files import HUB, PORT, VM, Files, remove, write
from appcat.switch.segment import FRAME, STALL, Port, Segment

# Bytes. macOS takes no datagrams over 2048 bytes (net.local.dgram.maxdgram).
MTU = 1500 if sys.platform == "darwin" else 9000
BUDGET = 256  # frames and copies of them, for each network in a round
GRACE = 60.0  # seconds after which a port that no QEMU has is taken away
_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Hub:
    """All ports of one home, as its files say."""

    name = "hub"

    def __init__(self, files: Files, selector: selectors.BaseSelector) -> None:
        self.files = files
        self.ports: dict[str, Port] = {}
        self.segments: dict[str, Segment] = {}
        self._selector = selector
        self._ready: list[Port] = []
        self._slow: set[Port] = set()
        for name in files.ports():
            self._adopt(name, files.network_of(name) or "")

    def open(self, names: list[str]) -> tuple[list[dict[str, object]], list[int]]:
        """Ports that are on no network: what to tell about each; raises NetworkError (port-busy) for one in use."""
        for name in names:
            if name in self.ports and self._lives(self.ports[name]):
                raise NetworkError(f"the port {name} is in use", hint="wait for its vm to end", code="port-busy")
        self.forget(names)
        answers: list[dict[str, object]] = []
        for name in names:
            write(self.files.of(name, PORT), "")
            port = self._adopt(name, "")
            answers.append({"local": port.local, "hub": self.files.of(name, HUB), "mtu": MTU})
        return answers, []

    def connect(self, joins: list[tuple[str, str]]) -> None:
        """Let frames of ports reach the others of their networks."""
        for name, network in joins:
            port = self.ports.get(name)
            if port is None:
                raise NetworkError(f"the switch has no port {name}", hint="is its vm still running?")
            write(self.files.of(name, PORT), network)
            if port.segment is None or port.segment.name != network:
                self._join(port, network)

    def forget(self, names: list[str]) -> None:
        """Take ports away, and their sockets."""
        for name in names:
            port = self.ports.pop(name, None)
            if port is not None:
                self._leave(port)
                self._watch(port, 0)
                self._slow.discard(port)
                self._resume(port)
                port.socket.close()
            for suffix in (PORT, HUB, VM):
                remove(self.files.of(name, suffix))

    def look(self) -> dict[str, list[str]]:
        """The connected ports of each network."""
        return {name: sorted(port.name for port in segment.ports) for name, segment in self.segments.items()}

    def living(self) -> int:
        """How many ports some QEMU has, or soon will; takes away the others."""
        now = time.monotonic()
        for port in list(self.ports.values()):
            if self._lives(port):
                port.opened = now
                if not port.linked:
                    port.link()
            elif now - port.opened > GRACE:
                self.forget([port.name])
        for segment in self.segments.values():
            segment.age(now)
        return len(self.ports)

    def ready(self, port: Port, events: int) -> None:
        """``port`` takes more, or has sent something; that is passed on in ``round``."""
        if events & _WRITE:
            port.flush(time.monotonic())
        if events & _READ:
            self._ready.append(port)

    def round(self) -> None:
        """Pass frames on: each network has the same share of a round, and in it each port that has sent something."""
        now = time.monotonic()
        for segment, ports in self._by_segment().items():
            share = max(BUDGET // len(ports), 1)
            for port in ports:
                if segment is None:
                    _drop(port)
                else:
                    segment.serve(port, share, now)
                if port.held:
                    self._watch(port, port.events & ~_READ)
        for port in list(self._slow):
            self._attend(port, now)

    def patience(self) -> float | None:
        """Seconds until ``round`` has to be called even if nothing is ready; None: no need."""
        return STALL / 2 if any(port.waiting for port in self._slow) else None

    def _by_segment(self) -> dict[Segment | None, list[Port]]:
        """The ports that have sent something, where they are by now."""
        found: dict[Segment | None, list[Port]] = {}
        for port in self._ready:
            if self.ports.get(port.name) is port:
                found.setdefault(port.segment, []).append(port)
        self._ready.clear()
        return found

    def _attend(self, port: Port, now: float) -> None:
        """See to it that a port that something waits for is written to, and nobody waits for it longer than need be."""
        if port.judge(now):
            self._resume(port)
        self._watch(port, port.events | _WRITE if port.queue else port.events & ~_WRITE)
        if not port.queue:
            self._slow.discard(port)

    def _resume(self, port: Port) -> None:
        for other in port.release():
            if self.ports.get(other.name) is other:
                self._watch(other, other.events | _READ)

    def _adopt(self, name: str, network: str) -> Port:
        local, path = self.files.of(name, VM), self.files.of(name, HUB)
        remove(path)
        door = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        door.setblocking(False)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            door.setsockopt(socket.SOL_SOCKET, option, 16 * FRAME)
        door.bind(path)
        port = self.ports[name] = Port(name, door, local, time.monotonic())
        port.link()
        self._watch(port, _READ)
        if network:
            self._join(port, network)
        return port

    def _join(self, port: Port, network: str) -> None:
        self._leave(port)
        if not port.linked:
            port.link()
        if network not in self.segments:
            self.segments[network] = Segment(network, self._slow, time.monotonic())
        self.segments[network].join(port)

    def _leave(self, port: Port) -> None:
        segment = port.segment
        if segment is not None:
            segment.leave(port)
            if not segment.ports:
                self.segments.pop(segment.name, None)

    def _watch(self, port: Port, events: int) -> None:
        if events == port.events:
            return
        if not port.events:
            self._selector.register(port, events, port)
        elif events:
            self._selector.modify(port, events, port)
        else:
            self._selector.unregister(port)
        port.events = events

    def _lives(self, port: Port) -> bool:
        return is_bound(port.local)


def is_bound(path: str) -> bool:
    """Whether some process has bound the socket at ``path``."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as visitor:
        try:
            visitor.connect(path)
        except OSError:
            return False
        return True


def living_ports(files: Files) -> dict[str, str]:
    """The ports that QEMUs have, and the network of each, as the files say."""
    return {name: files.network_of(name) or "" for name in files.ports() if is_bound(files.of(name, VM))}


def _drop(port: Port) -> None:
    for _ in range(BUDGET):
        try:
            port.socket.recv(FRAME)
        except OSError:
            return
