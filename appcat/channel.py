"""Lines over a unix socket with deadlines: what the monitor, the guest agent and the guest program share."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from pathlib import Path

from appcat.checks import TICK, Check, unchecked

QUEUE_POLL = 0.02


class ChannelClosed(Exception):
    """The other side is gone, or was never there."""


class ChannelTimeout(Exception):
    """The other side said nothing in time."""


class LineChannel:
    """A connected socket that gives whole lines. Every wait ends at a deadline in seconds of the monotonic clock."""

    LONGEST_LINE = 64 << 20

    def __init__(self, path: Path, timeout: float) -> None:
        self._buffer = bytearray()
        self._socket = _connect(path, timeout)

    def __enter__(self) -> LineChannel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def fileno(self) -> int:
        """The descriptor, for select."""
        return self._socket.fileno()

    def send(self, data: bytes, deadline: float, descriptors: Sequence[int] = ()) -> None:
        """Send all of ``data``, and open files with its first byte; raises ChannelClosed or ChannelTimeout."""
        self._socket.settimeout(_left(deadline))
        try:
            sent = socket.send_fds(self._socket, [data], list(descriptors)) if descriptors else 0
            self._socket.sendall(data[sent:])
        except TimeoutError as error:
            raise ChannelTimeout from error
        except OSError as error:
            raise ChannelClosed(str(error)) from error

    def read_line(self, deadline: float, check: Check = unchecked) -> bytes:
        """The next line without its end; raises ChannelClosed, ChannelTimeout, and what ``check`` raises meanwhile."""
        while (end := self._buffer.find(b"\n")) < 0:
            self._fill(deadline, check)
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line.rstrip(b"\r")

    def _fill(self, deadline: float, check: Check) -> None:
        chunk = self._receive(deadline, check)
        if not chunk:
            raise ChannelClosed("closed by the other side")
        if len(self._buffer) + len(chunk) > self.LONGEST_LINE:
            raise ChannelClosed("an endless line")
        self._buffer += chunk

    def _receive(self, deadline: float, check: Check) -> bytes:
        while True:
            left = _left(deadline)
            self._socket.settimeout(left if check is unchecked else min(left, TICK))
            try:
                return self._socket.recv(65536)
            except TimeoutError:
                check()
            except OSError as error:
                raise ChannelClosed(str(error)) from error


def _connect(path: Path, timeout: float) -> socket.socket:
    deadline = time.monotonic() + timeout
    while True:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(str(path))
        except BlockingIOError as error:  # the queue of those who wait to be served is full
            connection.close()
            if time.monotonic() >= deadline:
                raise ChannelTimeout from error
            time.sleep(QUEUE_POLL)
        except OSError as error:
            connection.close()
            raise ChannelClosed(str(error)) from error
        else:
            return connection


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise ChannelTimeout
    return left
