"""How the switch is talked to: one JSON object a line each way; descriptors come along with an answer."""

from __future__ import annotations

import array
import json
import os
import socket

PROTOCOL = 1
LONGEST = 1 << 16
MOST_DESCRIPTORS = 64
# A descriptor that was received must not be inherited by what happens to be started next.
_CLOSE_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


def encode(message: dict[str, object]) -> bytes:
    """The line for ``message``."""
    return json.dumps(message).encode() + b"\n"


def decode(line: bytes) -> dict[str, object]:
    """What a line says; raises ValueError for anything but an object."""
    message = json.loads(line)
    if not isinstance(message, dict):
        raise ValueError("not an object")
    return message


def send(connection: socket.socket, message: dict[str, object], descriptors: list[int]) -> None:
    """Send all of ``message``; the receiver gets ``descriptors`` as its own."""
    line = encode(message)
    sent = socket.send_fds(connection, [line], descriptors) if descriptors else 0
    connection.sendall(line[sent:])


def receive(connection: socket.socket) -> tuple[dict[str, object], list[int]]:
    """The next message and its descriptors, which the caller closes; raises EOFError, OSError, ValueError."""
    line, descriptors = b"", []
    try:
        while not line.endswith(b"\n"):
            data, more = _receive(connection)
            descriptors += more
            line += data
            if not data:
                raise EOFError("the switch has hung up")
            if len(line) > LONGEST:
                raise ValueError("too long")
        return decode(line), descriptors
    except BaseException:
        close(descriptors)
        raise


def _receive(connection: socket.socket) -> tuple[bytes, list[int]]:
    """As ``socket.recv_fds``, which in Python 3.11 does not pass its flags on."""
    room = socket.CMSG_SPACE(MOST_DESCRIPTORS * array.array("i").itemsize)
    data, extra, _, _ = connection.recvmsg(LONGEST, room, _CLOSE_ON_EXEC)
    descriptors = array.array("i")
    for level, kind, content in extra:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(content[: len(content) - len(content) % descriptors.itemsize])
    return data, list(descriptors)


def close(descriptors: list[int]) -> None:
    """Close them all."""
    for descriptor in descriptors:
        os.close(descriptor)
