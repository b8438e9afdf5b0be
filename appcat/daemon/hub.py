"""Events as they come: one reader of the log, woken by whoever writes to it, for any number of listeners.

Nobody who listens is waited for: what he has not taken yet is kept up to ``MOST_KEPT`` events, then he is cut off.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import cast

from appcat.errors import AppcatError
from appcat.model.codec import encode
from appcat.model.event import Event
from appcat.model.shapes import EventInfo
from appcat.services.context import Context
from appcat.store.events import EventLog, Listener, Lost

log = logging.getLogger(__name__)

MOST_KEPT = 1000
BATCH = 1000
# How long an event may go unnoticed that nobody told of: its writer's poke was lost, or there is no socket for it.
LOOK_EVERY = 0.5
PATIENCE = 60.0


@dataclass(eq=False)
class Subscription:
    """What one listener has not taken yet. ``behind`` says that it was cut off, ``over`` that nothing more comes."""

    wanted: Callable[[Event], bool]
    since: int
    behind: bool = False
    over: bool = False
    _kept: deque[Event] = field(default_factory=deque)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def offer(self, event: Event) -> None:
        """Keep an event for it."""
        if self.behind or not self.wanted(event):
            return
        if len(self._kept) >= MOST_KEPT:
            self.behind = True
            self._kept.clear()
        else:
            self._kept.append(event)
        self._news.set()

    def end(self) -> None:
        """Nothing more comes."""
        self.over = True
        self._news.set()

    async def next(self, within: float) -> Event | None:
        """The next event, or None when there was none for so many seconds, or none will come."""
        if not self._kept and not self.behind and not self.over:
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), within)
        return self._kept.popleft() if self._kept else None


def every(_event: Event) -> bool:
    """Wants all events."""
    return True


class Hub:
    """The one reader. ``last`` is the id of the newest event that it has passed on."""

    def __init__(self, ctx: Context) -> None:
        self._events = EventLog(ctx.layout)
        self._layout = ctx.layout
        self._listeners: set[Subscription] = set()
        self._news = asyncio.Event()
        self._ready = asyncio.Event()
        self._mark: tuple[int, ...] | None = None
        self._closed = False
        self.last = 0
        self.told: list[Callable[[Event], None]] = []  # called in the loop with each event: they must not wait

    @property
    def listeners(self) -> int:
        """How many listen."""
        return len(self._listeners)

    def close(self) -> None:
        """Have all who listen end."""
        self._closed = True
        for listener in self._listeners:
            listener.end()

    @contextlib.contextmanager
    def subscribe(self, wanted: Callable[[Event], bool] = every) -> Iterator[Subscription]:
        """Listen: to what comes after the event ``Subscription.since``."""
        mine = Subscription(wanted, self.last, over=self._closed)
        self._listeners.add(mine)
        try:
            yield mine
        finally:
            self._listeners.discard(mine)

    async def ready(self) -> None:
        """Return once it reads, which is at once, but for the first moments."""
        await self._ready.wait()

    async def run(self) -> None:
        """Pass events on until cancelled; trouble with the files is logged, and tried again."""
        with self._woken():
            while True:
                try:
                    await self._pass_on()
                except (AppcatError, OSError) as error:
                    log.warning("events cannot be read: %s", error)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), LOOK_EVERY)
                self._news.clear()

    @contextlib.contextmanager
    def _woken(self) -> Iterator[None]:
        """Be poked by who writes, where that can be had."""
        loop = asyncio.get_running_loop()
        try:
            listener = Listener(self._layout)
        except AppcatError as error:
            log.warning("events will be late: %s", error)
            yield
            return
        with listener:

            def poked() -> None:
                listener.wait(0)
                self._news.set()

            loop.add_reader(listener.fileno(), poked)
            try:
                yield
            finally:
                loop.remove_reader(listener.fileno())

    async def _pass_on(self) -> None:
        if not self._ready.is_set():
            self._mark = self._events.mark()
            self.last = await asyncio.to_thread(self._events.last_id)
            self._ready.set()
            return
        mark = self._events.mark()  # one stat: an idle home is not read twice a second
        if mark == self._mark:
            return
        while found := await asyncio.to_thread(self._read):
            for event in found:
                self.last = event.id
                self._offer(event)
        self._mark = mark

    def _read(self) -> list[Event]:
        try:
            return self._events.read(self.last, BATCH)
        except Lost as lost:
            log.warning("events were written faster than read: %s", lost)
            return self._events.read(lost.first - 1, BATCH)

    def _offer(self, event: Event) -> None:
        for listener in self._listeners:
            listener.offer(event)
        for tell in self.told:
            tell(event)


async def replay(ctx: Context, mine: Subscription, after: int | None) -> AsyncIterator[Event | Lost]:
    """What happened after the id ``after`` (None: after now), then what happens, until the listener is cut off or over.

    Lost stands for events that are not there any more.
    """
    kept = EventLog(ctx.layout)
    sent = mine.since if after is None else after
    while sent != mine.since:
        try:
            found = await asyncio.to_thread(kept.read, sent, BATCH)
        except Lost as lost:
            yield lost
            sent = min(lost.first - 1, mine.since) if sent < mine.since else mine.since
            continue
        for event in found:
            sent = event.id
            yield event
        if sent >= mine.since or not found:
            break
    while not (mine.behind or mine.over):
        fresh = await mine.next(PATIENCE)
        if fresh is not None and fresh.id > sent:
            yield fresh


def as_info(event: Event) -> EventInfo:
    """An event as plain data."""
    return cast(EventInfo, encode(event))
