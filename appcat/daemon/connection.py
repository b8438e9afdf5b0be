"""One connection: uvicorn's protocol with an end to everything, and with the knowledge of its door.

What uvicorn leaves open is bounded here: how long a request's head may take, how long an answer may go unread, how
many connections there are, and who may hold one.
"""

from __future__ import annotations

import asyncio
import functools
import sys
from typing import Any

import h11
from starlette.types import Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

from appcat.daemon import problems
from appcat.daemon.door import Door, Peer, may_enter, peer_of
from appcat.errors import AppcatError, InvalidInput, Unavailable

HEAD_LIMIT = 32 << 10  # bytes of a request's first line and headers
HEAD_DEADLINE = 15.0  # seconds for them, from the connection or from their first byte
KEEP_ALIVE = 75  # seconds between two requests
READ_PATIENCE = 300.0  # seconds that a client may leave an answer unread
MOST_CONNECTIONS = 1000
RESERVED = 200  # of these, for the unix socket: whoever holds all that TCP may have keeps its owner not out


class Connection(H11Protocol):
    """HTTP/1.1 with one client. It gives every request its ``peer``."""

    def __init__(self, config: Config, state: ServerState, app_state: dict[str, Any], door: Door) -> None:
        super().__init__(config, state, app_state)
        self.door = door
        self.peer: Peer | None = None
        self.app = self._enter
        self.ws_protocol_class = functools.partial(Stream, app=self._enter)  # type: ignore[assignment]
        self._head_timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._begun = False

    async def _enter(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"]["peer"] = self.peer
        try:
            await self.door.app(scope, receive, send)
        except asyncio.CancelledError:  # the daemon ends, and this has had its time
            if self.cycle is not None:
                self.cycle.disconnected = True
            self.transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Let in who may come in."""
        super().connection_made(transport)
        self.peer = peer_of(self.door, transport.get_extra_info("socket"), transport.abort)
        if not may_enter(self.peer):
            self.refuse(AppcatError("this is another user's", hint="start a daemon of your own", code="foreign-user"))
        elif len(self.connections) > MOST_CONNECTIONS - (RESERVED if self.door.needs_token else 0):
            hint = "close some, or wait"
            self.refuse(Unavailable("there are too many connections", hint=hint, code="too-many-connections"))
        else:
            self._await_head()

    def data_received(self, data: bytes) -> None:
        """Some of a request."""
        if self.transport.is_closing():
            return
        self._begun = True
        if self._head_timer is None and not self._answering:
            self._await_head()
        super().data_received(data)
        if self._answering or self.transport.get_protocol() is not self:
            self._stop_timer()

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_DEADLINE, self._head_is_late)

    def _stop_timer(self) -> None:
        self._begun = False
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self._begun:
            hint = f"send a request's head within {HEAD_DEADLINE:.0f} s"
            self.refuse(InvalidInput("the request's head took too long", hint=hint, code="too-slow"))
        else:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """What came is no HTTP, or has too large a head: called by uvicorn while it handles the parser's error."""
        self._stop_timer()
        status = getattr(sys.exception(), "error_status_hint", 400)
        if status == 431:
            hint = f"{HEAD_LIMIT >> 10} KiB are enough"
            error = InvalidInput("the request's head is too large", hint=hint, code="headers-too-large")
        else:
            error = InvalidInput("this is not HTTP", hint="see what the client sends")
        if self._answering:  # a body that breaks off: the handler is told that its client is gone
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.refuse(error)

    def refuse(self, error: AppcatError) -> None:
        """Answer without a handler, if it is the time to answer, and hang up."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = problems.encode(error)
            status = problems.status_of(error)
            headers = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
            answer = h11.Response(status_code=status, headers=list(headers.items()), reason=STATUS_PHRASES[status])
            for event in (answer, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def pause_writing(self) -> None:
        """The client does not read."""
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(READ_PATIENCE, self.transport.abort)

    def resume_writing(self) -> None:
        """It reads again."""
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Over."""
        self._stop_timer()
        super().connection_lost(exc)
        if self._write_timer is not None:
            self._write_timer.cancel()


class Stream(WebSocketsSansIOProtocol):
    """A WebSocket, which keeps the door and the peer of the connection it began as."""

    def __init__(self, app: Any, **uvicorns: Any) -> None:
        super().__init__(**uvicorns)
        self.app = app
        self.peer: Peer | None = app.__self__.peer

    async def send(self, message: Any) -> None:
        """As uvicorn, which takes a WebSocket that was refused in full for one that was forgotten, and logs that."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body", False):
            self.handshake_complete = True
