"""Server-sent events: one source, many readers, none of whom costs a thread or can fill the memory.

A ``Feed`` is fed from any thread. Each subscriber has a short queue; who does not keep up gets what is in it no more,
but an event ``lost``, and the stream ends: the client comes again and says what it has seen (``Last-Event-ID``).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

from starlette.responses import StreamingResponse

HEARTBEAT = 15.0
QUEUE = 256
MEDIA_TYPE = "text/event-stream"
HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


@dataclass(frozen=True)
class Event:
    """One event. ``data`` is sent as JSON; ``id`` is what a client that comes again says it has seen."""

    kind: str
    data: Any
    id: str = ""

    def encode(self) -> bytes:
        """As the protocol has it. JSON has no line ends; in id and kind they would begin another field."""
        lines = [f"id: {_flat(self.id)}"] if self.id else []
        lines += [f"event: {_flat(self.kind)}", f"data: {json.dumps(self.data, ensure_ascii=False)}"]
        return ("\n".join(lines) + "\n\n").encode(errors="replace")


LOST = Event("lost", {"message": "events came faster than they were read"})
COMMENT = b": \n\n"


def _flat(text: str) -> str:
    return " ".join(text.split())


class Subscriber:
    """One reader of a feed: iterate over it. Made by ``Feed.subscribe``, in the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, size: int) -> None:
        self.loop = loop
        self._queue: asyncio.Queue[Event | None] = asyncio.Queue()
        self._size = size
        self._over = False

    def put(self, event: Event | None) -> None:
        """In the loop: one more, None for the end."""
        if self._over:
            return
        if event is not None and self._queue.qsize() >= self._size:
            while not self._queue.empty():
                self._queue.get_nowait()
            self._queue.put_nowait(LOST)
            event = None
        self._over = event is None
        self._queue.put_nowait(event)

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        event = await self._queue.get()
        if event is None:
            raise StopAsyncIteration
        return event


class Feed:
    """A source that many read. ``publish`` and ``close`` may be called from any thread, or where nobody listens."""

    def __init__(self, size: int = QUEUE) -> None:
        self._size = size
        self._lock = threading.Lock()
        self._subscribers: set[Subscriber] = set()
        self._closed = False

    @contextlib.contextmanager
    def subscribe(self) -> Iterator[Subscriber]:
        """A reader of all that is published from now on; of a closed feed, one that is at its end."""
        subscriber = Subscriber(asyncio.get_running_loop(), self._size)
        with self._lock:
            self._subscribers.add(subscriber)
            if self._closed:
                subscriber.put(None)
        try:
            yield subscriber
        finally:
            with self._lock:
                self._subscribers.discard(subscriber)

    @property
    def readers(self) -> int:
        """How many there are."""
        return len(self._subscribers)

    def publish(self, event: Event) -> None:
        """To all."""
        self._tell(event)

    def close(self) -> None:
        """All streams end when what is queued has been read."""
        with self._lock:
            self._closed = True
        self._tell(None)

    def _tell(self, event: Event | None) -> None:
        with self._lock:
            for subscriber in self._subscribers:
                with contextlib.suppress(RuntimeError):  # its loop is closed
                    subscriber.loop.call_soon_threadsafe(subscriber.put, event)


async def encoded(events: AsyncIterator[Event], heartbeat: float = HEARTBEAT) -> AsyncIterator[bytes]:
    """The events as bytes; a comment where ``heartbeat`` seconds bring none, so that both sides know of each other."""
    upcoming = asyncio.ensure_future(anext(events))
    try:
        await asyncio.sleep(0)  # it listens before the client is told that the answer begins
        yield COMMENT  # which is now, not with the first event
        while True:
            done, _ = await asyncio.wait({upcoming}, timeout=heartbeat)
            if not done:
                yield COMMENT
                continue
            try:
                event = upcoming.result()
            except StopAsyncIteration:
                return
            upcoming = asyncio.ensure_future(anext(events))
            yield event.encode()
    finally:
        upcoming.cancel()
        with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration):
            await upcoming


def respond(events: AsyncIterator[Event], heartbeat: float = HEARTBEAT) -> StreamingResponse:
    """The answer that sends ``events`` until they end or the client goes, which ends the iteration."""
    return StreamingResponse(encoded(events, heartbeat), media_type=MEDIA_TYPE, headers=HEADERS)


async def follow(feed: Feed) -> AsyncIterator[Event]:
    """All that ``feed`` publishes from the first step on: ``respond(follow(feed))``."""
    with feed.subscribe() as subscriber:
        async for event in subscriber:
            yield event
