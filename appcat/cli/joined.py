"""Standard input and output joined to a socket, until either side ends."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading

CHUNK = 1 << 16


def join(door: socket.socket) -> None:
    """Copy both ways. The end of our input is passed on; the end of the socket ends it all."""
    threading.Thread(target=_send, args=(sys.stdin.fileno(), door), daemon=True).start()
    out = sys.stdout.fileno()
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        while data := door.recv(CHUNK):
            view = memoryview(data)
            while view:
                view = view[os.write(out, view) :]


def _send(source: int, door: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := os.read(source, CHUNK):
            door.sendall(data)
        door.shutdown(socket.SHUT_WR)
