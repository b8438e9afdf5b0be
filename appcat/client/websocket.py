"""A WebSocket on a dialled socket, for one thread, which waits for nothing but what it selects.

``websockets.sync`` is not used: it writes to the socket while it holds the lock that reading needs. Two sides that both
push back, as ``cat`` in a guest makes them do, would stand still for ever. Its protocol without input and output is
what remains; and TLS, which two threads must not read and write at a time, comes to no harm.
"""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri

from appcat.client.http import Http, Query, url_query
from appcat.client.transport import CONNECT_PATIENCE, no_answer
from appcat.errors import AppcatError

CHUNK = 1 << 16
LARGEST_MESSAGE = 16 << 20
NORMAL = 1000

Message = str | bytes


@dataclass
class WebSocket:
    """An open connection. What is sent is written when ``flush`` finds that the socket takes it."""

    connection: socket.socket
    protocol: ClientProtocol
    ended: bool = False
    unsent: bytearray = field(default_factory=bytearray)
    _parts: list[bytes] = field(default_factory=list)
    _is_text: bool = False

    def fileno(self) -> int:
        """The descriptor, for select."""
        return self.connection.fileno()

    def send(self, message: Message) -> None:
        """Text or bytes, whole."""
        if isinstance(message, str):
            self.protocol.send_text(message.encode())
        else:
            self.protocol.send_binary(message)
        self._collect()

    def flush(self) -> None:
        """Write what the socket takes now; raises OSError when the other side is gone."""
        with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            while self.unsent:
                del self.unsent[: self.connection.send(bytes(self.unsent[:CHUNK]))]

    def receive(self) -> list[Message]:
        """The messages that are whole by now; ``ended`` tells that no more will come. Never waits; raises OSError."""
        try:
            data = self.connection.recv(CHUNK)
            while isinstance(self.connection, ssl.SSLSocket) and self.connection.pending():
                data += self.connection.recv(CHUNK)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return []
        if data:
            self.protocol.receive_data(data)
        else:
            self.protocol.receive_eof()
            self.ended = True
        return self.take(self.protocol.events_received())

    def take(self, events: Sequence[Any]) -> list[Message]:
        """The messages that become whole with these frames."""
        messages = [message for frame in events if isinstance(frame, Frame) for message in self._whole(frame)]
        self._collect()  # pongs, and the answer to a goodbye
        self.ended = self.ended or self.protocol.close_expected()
        return messages

    def _whole(self, frame: Frame) -> list[Message]:
        if frame.opcode in (Opcode.TEXT, Opcode.BINARY):
            self._is_text, self._parts = frame.opcode is Opcode.TEXT, []
        elif frame.opcode is not Opcode.CONT:
            return []
        self._parts.append(bytes(frame.data))
        if not frame.fin:
            return []
        whole, self._parts = b"".join(self._parts), []
        return [whole.decode(errors="replace") if self._is_text else whole]

    def close(self) -> None:
        """Say goodbye where that can be done at once, and hang up."""
        with contextlib.suppress(Exception):  # a protocol that has ended has nothing more to say
            self.protocol.send_close(NORMAL)
            self._collect()
            self.flush()
        self.connection.close()

    def _collect(self) -> None:
        for data in self.protocol.data_to_send():
            self.unsent += data


def open_websocket(http: Http, where: str, query: Query | None = None) -> tuple[WebSocket, list[Message]]:
    """Dial and shake hands: the connection, and what was said at once.

    Raises the error that the daemon refuses with, Unavailable when it does not answer.
    """
    connection = http.dialer.dial(CONNECT_PATIENCE)
    try:
        protocol = ClientProtocol(parse_uri(f"ws://appcat{where}{url_query(query or {})}"), max_size=LARGEST_MESSAGE)
        events = _shake_hands(http, connection, protocol)
        connection.setblocking(False)
        websocket = WebSocket(connection, protocol)
        return websocket, websocket.take(events) + websocket.receive()  # TLS may hold what select does not see
    except TimeoutError as error:
        connection.close()
        raise no_answer(http.dialer.url, http.patience) from error
    except OSError as error:
        connection.close()
        raise http.lost(error) from error
    except BaseException:
        connection.close()
        raise


def _shake_hands(http: Http, connection: socket.socket, protocol: ClientProtocol) -> list[Any]:
    """Until the daemon has agreed; what came after that."""
    request = protocol.connect()
    for name, value in http.headers.items():
        if name in request.headers:
            del request.headers[name]
        request.headers[name] = value
    protocol.send_request(request)
    deadline = time.monotonic() + http.patience
    connection.settimeout(http.patience)
    connection.sendall(b"".join(protocol.data_to_send()))
    while not (events := protocol.events_received()):
        if protocol.handshake_exc is not None or time.monotonic() > deadline:
            raise ConnectionResetError(str(protocol.handshake_exc or "its answer does not end"))
        data = connection.recv(CHUNK)
        if not data:
            protocol.receive_eof()  # an answer may end with the connection
            if not (events := protocol.events_received()):
                raise ConnectionResetError("it was closed without an answer")
            break
        protocol.receive_data(data)
    answer = events[0]
    if protocol.handshake_exc is not None and isinstance(answer, Response):
        raise _refusal(http, answer)
    return list(events[1:])


def _refusal(http: Http, response: Response) -> AppcatError:
    try:
        body = json.loads(response.body or b"")
    except ValueError:
        body = None
    return http.refusal(response.status_code, body)
