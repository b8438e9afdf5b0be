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
KNOCK = 0.1  # seconds between looks for a QEMU that may have come

_buffer = bytearray(FRAME)
_view = memoryview(_buffer)


class Port:
    """A vm's card on the hub: the socket that it sends to, and what waits for it to take.

    ``linked``: the socket is connected to QEMU's. ``stuck``: its guest has taken nothing for a while, and senders do
    not wait for it. ``held``: it waits for another itself. Times are of the monotonic clock, in seconds.
    """

    __slots__ = (
        "events",
        "held",
        "knocked",
        "linked",
        "local",
        "name",
        "opened",
        "queue",
        "queued",
        "segment",
        "since",
        "socket",
        "stuck",
        "waiting",
    )

    def __init__(self, name: str, door: socket.socket, local: str, now: float) -> None:
        self.name = name
        self.socket = door
        self.local = local
        self.opened = self.since = now
        self.knocked = 0.0
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

    def is_there(self, now: float) -> bool:
        """Whether QEMU is: a port may be on its network before that has begun."""
        if not self.linked and now - self.knocked >= KNOCK:
            self.knocked = now
            self.link()
        return self.linked

    def give(self, size: int, now: float) -> bool:
        """Pass on the frame in the buffer, or keep it. False: no more at the moment, please."""
        if not self.queue:
            if self._sent(_view[:size]):
                return True
            self.since = now
        if self.queued < TOO_MUCH and not (self.stuck and self.queued >= ENOUGH):
            self.queue.append(bytes(_view[:size]))
            self.queued += size
        return self.stuck or self.queued < ENOUGH

    def flush(self, now: float) -> None:
        """Pass on what waits, as far as it is taken."""
        while self.queue and self._sent(self.queue[0]):
            self.queued -= len(self.queue.popleft())
            self.since, self.stuck = now, False

    def judge(self, now: float) -> bool:
        """Whether those that wait for this port may go on: it has taken enough, or is not worth waiting for."""
        if self.queue and now - self.since > STALL:
            self.stuck = True
        return self.stuck or self.queued < ENOUGH // 2

    def _sent(self, frame: bytes | memoryview) -> bool:
        """False when it has to wait; what nobody is there to take counts as sent."""
        try:
            self.socket.send(frame)
        except BlockingIOError:
            return False
        except ConnectionError:
            self.linked = False
        except OSError:
            pass  # no memory for it, or QEMU has not bound its socket yet
        return True

    def release(self) -> list[Port]:
        """Those that waited for this one, and may go on."""
        waiting, self.waiting = self.waiting, []
        for port in waiting:
            port.held = False
        return waiting


class Segment:
    """The ports of one network; ``slow`` are those that something waits for, of which the hub is told so."""

    __slots__ = ("cards", "forget_at", "name", "ports", "slow")

    def __init__(self, name: str, slow: set[Port], now: float) -> None:
        self.name = name
        self.ports: list[Port] = []
        self.cards: dict[bytes, Port] = {}
        self.forget_at = now + FORGET_CARDS
        self.slow: set[Port] = slow

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
        """Pass on what ``source`` has sent: about as many frames as ``budget``, each copy being one."""
        if not source.linked:
            source.link()
        receive, cards = source.socket.recv_into, self.cards
        while budget > 0 and not source.held:
            try:
                size = receive(_buffer)
            except OSError:
                return
            budget -= 1
            if size < SHORTEST:
                continue
            target_card, card = bytes(_view[:6]), bytes(_view[6:12])
            if cards.get(card) is not source:
                self._learn(card, source)
            target = cards.get(target_card)
            if target is None:
                budget -= self._flood(source, size, now)
            elif target is not source:
                budget -= 1
                if not target.give(size, now):
                    source.held = True
                    target.waiting.append(source)
                if target.queue:
                    self.slow.add(target)

    def _learn(self, card: bytes, source: Port) -> None:
        if card[0] & 1:
            return  # no card has a group's address
        if len(self.cards) >= MOST_CARDS:
            self.cards.clear()
        self.cards[card] = source

    def _flood(self, source: Port, size: int, now: float) -> int:
        """To all others, none of which is waited for; returns how many copies that were."""
        others = [port for port in self.ports if port is not source and port.is_there(now)]
        for port in others:
            port.give(size, now)
            if port.queue:
                self.slow.add(port)
        return len(others)
