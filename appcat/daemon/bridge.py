"""WebSockets joined to what services read and write: bytes both ways, back-pressure both ways, an end to everything.

The service runs in a thread of its own with pipes for its streams. A client that does not read makes the service wait;
a service that does not read makes the client wait, once ``MOST_HELD`` bytes are held for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any, Protocol

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from appcat.daemon import problems
from appcat.daemon.pipes import ended

MOST_HELD = 1 << 20
LOOK_EVERY = 1.0


class ClientGone(Exception):
    """There is nobody at the other end any more."""


async def deny(socket: WebSocket, error: BaseException) -> None:
    """Refuse a WebSocket that was not accepted: an HTTP answer like any other error's."""
    with contextlib.suppress(RuntimeError, OSError):
        await socket.send_denial_response(problems.respond(problems.as_error(error)))


async def tell(socket: WebSocket, message: dict[str, Any]) -> None:
    """Send a JSON text frame; nobody there is fine."""
    with contextlib.suppress(ClientGone):
        async with leaving():
            await socket.send_text(json.dumps(message, ensure_ascii=False))


async def tell_error(socket: WebSocket, error: BaseException) -> None:
    """Send the frame that says what went wrong."""
    await tell(socket, {"type": "error", "error": json.loads(problems.encode(problems.as_error(error)))})


async def close(socket: WebSocket) -> None:
    """Say good-bye; nobody there is fine."""
    with contextlib.suppress(RuntimeError, OSError, WebSocketDisconnect):
        if socket.client_state is WebSocketState.CONNECTED and socket.application_state is WebSocketState.CONNECTED:
            await socket.close(1000)


@contextlib.asynccontextmanager
async def leaving() -> AsyncIterator[None]:
    """Raise ClientGone for what sending to nobody raises."""
    try:
        yield
    except (WebSocketDisconnect, RuntimeError, OSError) as error:
        raise ClientGone from error


async def receive(socket: WebSocket) -> bytes | str:
    """The next frame; raises ClientGone."""
    async with leaving():
        message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise ClientGone
    text = message.get("text")
    return text if text is not None else bytes(message.get("bytes") or b"")


def is_gone(socket: WebSocket) -> bool:
    """Whether the client has hung up, although nobody receives at present."""
    peer = socket.scope.get("state", {}).get("peer")
    return peer is not None and bool(peer.is_gone())


async def send_pieces(socket: WebSocket, pieces: AsyncIterator[bytes], turn: asyncio.Lock, mark: bytes = b"") -> None:
    """Send each piece as a binary frame, ``mark`` before it; raises ClientGone."""
    async for piece in pieces:
        async with turn, leaving():
            await socket.send_bytes(mark + piece)


class Sink(Protocol):
    """Where data from the client goes, such as an ``Inlet``."""

    async def write(self, data: bytes) -> bool:
        """Pass on all of it; False when nobody wants any more."""
        ...

    def close(self) -> None:
        """That was all."""
        ...


class Feeder:
    """What came from the client, on its way to where it goes: who feeds it goes on receiving, up to a limit."""

    def __init__(self, sink: Sink, is_gone: Callable[[], bool]) -> None:
        self._sink, self._is_gone = sink, is_gone
        self._held: list[bytes] = []
        self._size = 0
        self._over = False
        self._news, self._room = asyncio.Event(), asyncio.Event()
        self._task = asyncio.create_task(self._pass_on())

    async def put(self, data: bytes) -> None:
        """Hold ``data``; empty, it is the end. Waits for room; raises ClientGone."""
        if self._over:
            return
        self._over = not data
        self._held.append(data)
        self._size += len(data)
        self._news.set()
        while self._size > MOST_HELD and not self._task.done():
            self._room.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._room.wait(), LOOK_EVERY)
            if self._is_gone():  # what nobody receives tells nothing
                raise ClientGone

    async def drop(self) -> None:
        """Forget what is held."""
        await ended(self._task)

    async def close(self) -> None:
        """Forget what is held; that was all."""
        await self.drop()
        self._sink.close()

    async def _pass_on(self) -> None:
        while True:
            self._news.clear()
            while self._held:
                data = self._held.pop(0)
                if not data or not await self._sink.write(data):
                    self._over = True
                    self._held.clear()
                    self._size = 0
                    self._room.set()
                    self._sink.close()
                    return
                self._size -= len(data)
                self._room.set()
            await self._news.wait()
