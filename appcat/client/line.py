"""A WebSocket joined to streams of this process: a thread that passes on, and never holds more than it has to.

Both sides push back: what nobody takes here is not read from the socket, what the daemon does not take is not read from
the input.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import json
import os
import select
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from appcat.client.websocket import CHUNK, Message, WebSocket

# Of what is waiting to be written, on each side.
MOST_WAITING = 1 << 20
TICK = 0.5
GOODBYE_PATIENCE = 1.0


class Outlet(threading.Thread):
    """Writes what it is given, in a thread of its own, since writing may take its time."""

    def __init__(self, write: Callable[[bytes], object], wake: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self._write, self._wake = write, wake
        self._waiting: collections.deque[bytes] = collections.deque()
        self._size = 0
        self._changed = threading.Condition()
        self._over = False
        self.error: OSError | None = None

    @property
    def is_full(self) -> bool:
        """Whether more should not be given for now."""
        return self._size >= MOST_WAITING

    def put(self, data: bytes) -> None:
        """Write this, some time; nothing is written any more after an ``error``."""
        with self._changed:
            if data and self.error is None:
                self._waiting.append(data)
                self._size += len(data)
                self._changed.notify()

    def finish(self) -> None:
        """Nothing more will be put: end when all is written."""
        with self._changed:
            self._over = True
            self._changed.notify()

    def run(self) -> None:
        """Write until the end."""
        try:
            while data := self._next():
                self._write(data)
                with self._changed:
                    was_full = self.is_full
                    self._size -= len(data)
                if was_full:
                    self._wake()
        except (OSError, ValueError) as error:  # ValueError: the caller has closed its file
            with self._changed:
                self.error = error if isinstance(error, OSError) else OSError(errno.EBADF, str(error))
                self._size = 0
                self._waiting.clear()
            self._wake()

    def _next(self) -> bytes:
        with self._changed:
            while not self._waiting and not self._over:
                self._changed.wait()
            return self._waiting.popleft() if self._waiting else b""


class Line(threading.Thread):
    """Passes on, until the daemon hangs up, ``stop`` is called, or an outlet cannot write.

    ``take`` is given every message and may put it into ``outlets``. ``source`` is read and sent as bytes; its end is an
    empty message.
    """

    def __init__(
        self, websocket: WebSocket, source: BinaryIO | socket.socket | None, take: Callable[[Message], None]
    ) -> None:
        super().__init__(daemon=True)
        self._websocket, self._source, self._take = websocket, source, take
        self._outlets: list[Outlet] = []
        self._said: collections.deque[str] = collections.deque()
        self._ear, self._mouth = os.pipe()
        self._guard = threading.Lock()
        self._stopped = False
        self._watched: socket.socket | None = source if isinstance(source, socket.socket) else None
        self.error: OSError | None = None

    def outlet(self, write: Callable[[bytes], object]) -> Outlet:
        """One that makes the daemon wait when it is full."""
        made = Outlet(write, self.wake)
        self._outlets.append(made)
        made.start()
        return made

    def say(self, message: Mapping[str, Any]) -> None:
        """Send a JSON text; from any thread."""
        self._said.append(json.dumps(message))
        self.wake()

    def stop(self) -> None:
        """Hang up; from any thread."""
        self._stopped = True
        self.wake()

    def wake(self) -> None:
        """Have the thread look around."""
        with self._guard:
            if self._mouth >= 0:
                os.write(self._mouth, b".")

    def run(self) -> None:
        """Pass on."""
        try:
            while not (self._stopped or self._websocket.ended or self._has_failed()):
                self._turn()
        except OSError as error:
            self.error = error
        finally:
            self._websocket.close()
            for outlet in self._outlets:
                outlet.finish()
            with self._guard:
                os.close(self._mouth)
                os.close(self._ear)
                self._mouth = -1

    def _turn(self) -> None:
        websocket = self._websocket
        reading: list[Any] = [self._ear]
        if not any(outlet.is_full for outlet in self._outlets):
            reading.append(websocket)
        if self._source is not None and len(websocket.unsent) < MOST_WAITING:
            reading.append(self._source)
        readable, writable, _ = select.select(reading, [websocket] if websocket.unsent else [], [], TICK)
        if self._ear in readable:
            os.read(self._ear, CHUNK)
        while self._said:
            websocket.send(self._said.popleft())
        if self._source in readable:
            self._pass_input()
        if websocket in readable:
            for message in websocket.receive():
                self._take(message)
        if writable or websocket.unsent:
            websocket.flush()

    def _pass_input(self) -> None:
        assert self._source is not None
        try:
            data = os.read(self._source.fileno(), CHUNK // 2)
        except OSError:  # a terminal that hung up, a peer that is gone
            data = b""
        self._websocket.send(data)
        if not data:
            self._source = None

    def _has_failed(self) -> bool:
        return any(outlet.error for outlet in self._outlets) or (self._source is None and self._is_deserted())

    def _is_deserted(self) -> bool:
        """Whether the socket that was the source is closed altogether, not only at one of its ends."""
        if self._watched is None:
            return False
        poll = select.poll()
        poll.register(self._watched, 0)
        return any(event & select.POLLHUP for _, event in poll.poll(0))


def bridge(
    websocket: WebSocket, early: list[Message], told: Callable[[Mapping[str, Any]], None]
) -> tuple[socket.socket, Line]:
    """A socket that is joined to ``websocket``, and what joins them.

    An empty message from the daemon is the end of that direction; its texts go to ``told``. When the WebSocket ends,
    the socket does.
    """
    ours, theirs = socket.socketpair()

    def take(message: Message) -> None:
        if isinstance(message, str):
            told(parsed(message))
        elif message:
            outlet.put(message)
        else:
            outlet.finish()

    line = Line(websocket, theirs, take)
    outlet = line.outlet(theirs.sendall)
    for message in early:
        take(message)
    line.start()
    threading.Thread(target=_end, args=(line, outlet, theirs), daemon=True).start()
    return ours, line


def _end(line: Line, outlet: Outlet, theirs: socket.socket) -> None:
    """Pass the ends on: of what the daemon says, then of everything."""
    outlet.join()
    with contextlib.suppress(OSError):
        theirs.shutdown(socket.SHUT_WR)
    line.join()
    theirs.close()


def parsed(text: str) -> Mapping[str, Any]:
    """A message of the daemon's; an empty one when it makes no sense."""
    with contextlib.suppress(ValueError):
        data = json.loads(text)
        if isinstance(data, dict):
            return data
    return {}
