"""What all routes work with: the engine, the threads, the events, the listing. One per daemon."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection
from starlette.responses import Response

from appcat.app import App
from appcat.daemon.answers import answer
from appcat.daemon.hub import Hub
from appcat.daemon.listing import Listing
from appcat.daemon.pipes import ended
from appcat.daemon.workers import TooMany, Workers
from appcat.errors import AppcatError, Unavailable
from appcat.model.codec import encode
from appcat.services.context import Context
from appcat.services.operations import Prepared, Running, prepare

log = logging.getLogger(__name__)

MOST_OPERATIONS = 256  # at work or waiting for their turn
# Each stream has a thread, an SSH connection with another, and about ten descriptors.
MOST_STREAMS = 128
MOST_WAITS = 64
LOOKS = 32

Work = Callable[[App, Running], None]


class Desk:
    """Shared by all requests; ``open`` while the loop runs. Operations are done by ``threads``."""

    def __init__(self, ctx: Context, threads: ThreadPoolExecutor) -> None:
        self.ctx = replace(ctx, origin="daemon")
        self.listing = Listing(self.ctx)
        self.hub = Hub(self.ctx)
        self.streams = Workers(MOST_STREAMS, "streams and transfers")
        self._threads = threads
        # What only waits for a vm keeps nobody else from his turn.
        self._waiting = ThreadPoolExecutor(MOST_WAITS, "appcat waiting")
        self.closing = False
        self._pending: set[Prepared] = set()
        self._begun = 0
        self._lock = threading.Lock()

    @property
    def app(self) -> App:
        """The engine, for one request: what an older one remembers of the host may be out of date."""
        return App(replace(self.ctx))

    def close(self) -> None:
        """The daemon begins to end: endless streams do, too. Called in the loop."""
        self.closing = True
        self.hub.close()

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Pass events on; at the end, operations that have not begun never will, and say so."""
        # For looks at files: the default has six threads on a small host, and a busy disk can hold each for a while.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(LOOKS, "appcat looks"))
        hub = asyncio.create_task(self.hub.run())
        try:
            yield
        finally:
            await ended(hub)
            self.listing.close()
            for pool in (self._threads, self._waiting):
                pool.shutdown(wait=False, cancel_futures=True)
            for prepared in list(self._pending):
                prepared.abandon(
                    Unavailable("the daemon ended before this began", hint="ask again", code="daemon-ending")
                )

    def begin(self, verb: str, vms: Sequence[str], work: Work, *, waits: bool = False) -> Response:
        """Have ``work`` done as an operation: the answer is 202 with its id. Call from a handler's thread.

        ``waits`` is for what does nothing else. Raises TooMany, Unavailable when the daemon is ending.
        """
        with self._lock:
            if self.closing:
                raise Unavailable("the daemon is ending", hint="ask the next one", code="daemon-ending")
            if self._begun >= MOST_OPERATIONS:
                raise TooMany(f"there are {MOST_OPERATIONS} operations already", hint="wait for some to end")
            self._begun += 1
        prepared = prepare(replace(self.ctx), verb, vms)
        self._pending.add(prepared)
        told = answer(
            {"operation": encode(prepared.operation)},
            202,
            {"Location": f"/v1/operations/{prepared.id}", "Appcat-Operation": prepared.id},
        )
        (self._waiting if waits else self._threads).submit(self._do, prepared, work)
        return told

    def _do(self, prepared: Prepared, work: Work) -> None:
        self._pending.discard(prepared)
        try:
            with prepared.run() as running:
                work(App(running.ctx), running)
        except AppcatError as error:  # recorded
            log.info("operation %s failed: %s", prepared.id, error)
        except Exception:  # a fault of ours: the record says "internal", and the thread serves the next one
            log.exception("operation %s failed in a way nobody thought of", prepared.id)
        finally:
            with self._lock:
                self._begun -= 1


async def desk_of(connection: HTTPConnection) -> Desk:
    """The desk of the daemon that a request came to."""
    desk: Desk = connection.app.state.desk
    return desk


AtDesk = Annotated[Desk, Depends(desk_of)]
