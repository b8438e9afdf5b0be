"""One network of the hub: which card is behind which port, and frames between ports.

The port that a frame came by decides where it may go, never what is in it. A port has a socket of its own, connected
to QEMU's, so the kernel makes only that QEMU wait whose frames are not taken yet.
"""

from __future__ import annotations

import socket
from collections import deque

FRAME = 1 << 17  # bytes; larger than any frame QEMU sends
SHORTEST = 14  # bytes of an Ethernet header; an empty datagram would make QEMU stop reading for good
MOST_CARDS = 4096
FORGET_CARDS = 300.0  # seconds, as a bridge of the kernel does
ENOUGH, TOO_MUCH = 1 << 18, 1 << 20  # bytes waiting for a port: its senders wait from here on; no more is kept
STALL = 0.1  # seconds that senders wait for a guest that takes nothing

_buffer = bytearray(FRAME)
_view = memoryview(_buffer)


class Port:
    """A vm's card on the hub: the socket that it sends to, and what waits for it to take.

    ``linked``: the socket is connected to QEMU's. ``stuck``: its guest has taken nothing for a while, and senders do
    not wait for it. ``held``: it waits for another itself. Times are of the monotonic clock, in seconds.
    """

    __slots__ = ("events", "held", "linked", "local", "name", "opened", "queue", "queued", "segment")
    __slots__ += ("since", "socket", "stuck", "waiting")

    def __init__(self, name: str, door: socket.socket, local: str, now: float) -> None:
        self.name = name
        self.socket = door
        self.local = local
        self.opened = self.since = now
        self.segment: Segment | None = None
        self.queue: deque[bytes] = deque()
        self.queued = self.events = 0
        self.linked = self.stuck = self.held = False
        self.waiting: list[Port] = []

    def fileno(self) -> int:
        """For whoever waits until it is ready."""
        return self.socket.fileno()

    def link(self) -> bool:
        """Connect to the socket that QEMU has bound; False when there is none."""
        try:
            self.socket.connect(self.local)
        except OSError:
            self.linked = False
        else:
            self.linked = True
        return self.linked

    def give(self, size: int) -> bool:
        """Pass on the frame in the buffer. False: no more at the moment, please."""
        if not self.queue:
            try:
                self.socket.send(_view[:size])
                return True
            except BlockingIOError:
                pass
            except OSError:
                self.linked = False  # QEMU is gone, or not there yet
                return True
        if self.queued < TOO_MUCH and not (self.stuck and self.queued >= ENOUGH):
            self.queue.append(bytes(_view[:size]))
            self.queued += size
        return self.stuck or self.queued < ENOUGH

    def flush(self, now: float) -> None:
        """Pass on what waits, as far as it is taken."""
        queue = self.queue
        while queue:
            try:
                self.socket.send(queue[0])
            except BlockingIOError:
                return
            except OSError:
                self.linked = False
                self.clear()
                return
            self.queued -= len(queue.popleft())
            self.since, self.stuck = now, False

    def clear(self) -> None:
        """What waits is lost."""
        self.queue.clear()
        self.queued = 0

    def release(self) -> list[Port]:
        """Those that waited for this one, and may go on."""
        waiting, self.waiting = self.waiting, []
        for port in waiting:
            port.held = False
        return waiting


class Segment:
    """The ports of one network."""

    __slots__ = ("cards", "forget_at", "name", "ports", "touched")

    def __init__(self, name: str, now: float) -> None:
        self.name = name
        self.ports: list[Port] = []
        self.cards: dict[bytes, Port] = {}
        self.forget_at = now + FORGET_CARDS
        self.touched: set[Port] = set()

    def join(self, port: Port) -> None:
        """Add a port."""
        port.segment = self
        self.ports.append(port)

    def leave(self, port: Port) -> None:
        """Take a port away, and what was known of the cards behind it."""
        port.segment = None
        self.ports.remove(port)
        self.cards = {card: there for card, there in self.cards.items() if there is not port}

    def age(self, now: float) -> None:
        """Forget where cards are, now and then: one that has moved and says nothing is found again."""
        if now >= self.forget_at:
            self.cards.clear()
            self.forget_at = now + FORGET_CARDS

    def serve(self, source: Port, budget: int, now: float) -> None:
        """Pass on what ``source`` has sent: at most ``budget`` frames, copies counted, and one more."""
        receive, cards = source.socket.recv_into, self.cards
        while budget > 0 and not source.held:
            try:
                size = receive(_buffer)
            except OSError:
                return
            budget -= 1
            if size < SHORTEST:
                continue
            head = bytes(_view[:12])
            if cards.get(head[6:]) is not source:
                self._learn(head[6:], source)
            target = cards.get(head[:6])
            if target is None:
                budget -= self._flood(source, size, now)
            elif target is not source:
                budget -= 1
                if not target.give(size):
                    source.held = True
                    target.waiting.append(source)
                if target.queue:
                    self._touch(target, now)

    def _learn(self, card: bytes, source: Port) -> None:
        if not source.linked:
            source.link()
        if card[0] & 1:
            return  # no card has a group's address
        if len(self.cards) >= MOST_CARDS:
            self.cards.clear()
        self.cards[card] = source

    def _flood(self, source: Port, size: int, now: float) -> int:
        for port in self.ports:
            if port is not source and port.linked:
                port.give(size)
                if port.queue:
                    self._touch(port, now)
        return len(self.ports)

    def _touch(self, port: Port, now: float) -> None:
        """Note that something waits for ``port``."""
        if len(port.queue) == 1:
            port.since = now
        self.touched.add(port)
