"""A thread for each stream, up to a number, so that what waits for long leaves the handlers' pool to others.

They are daemon threads: nothing that a guest keeps waiting keeps the daemon from ending.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from appcat.errors import Unavailable

T = TypeVar("T")


class Interrupted(Exception):
    """The work was interrupted, as by Ctrl-C."""


class TooMany(Unavailable):
    """As much is going on as may at a time."""

    code = "too-many"


class Workers:
    """At most ``most`` calls at a time, a thread each; ``what`` names them in errors."""

    def __init__(self, most: int, what: str) -> None:
        self._most, self._what = most, what
        self._count = 0

    @property
    def count(self) -> int:
        """How many are at work."""
        return self._count

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """Count as one at work while the block lasts; raises TooMany."""
        self._take()
        try:
            yield
        finally:
            self._count -= 1

    def _take(self) -> None:
        if self._count >= self._most:
            raise TooMany(f"there are {self._most} {self._what} already", hint="end some, or try again later")
        self._count += 1

    def start(self, call: Callable[[], T]) -> asyncio.Future[T]:
        """Begin ``call``; raises TooMany. Its KeyboardInterrupt becomes Interrupted: the event loop must not see one.

        The future may be dropped: what the call raises then is nobody's concern.
        """
        self._take()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        future.add_done_callback(_look_at)

        def work() -> None:
            try:
                result = call()
            except KeyboardInterrupt:
                told = self._tell(loop, lambda: _fail(future, Interrupted()))
            except BaseException as error:
                told = self._tell(loop, lambda error=error: _fail(future, error))  # type: ignore[misc]
            else:
                told = self._tell(loop, lambda: None if future.done() else future.set_result(result))
            if not told:
                self._count -= 1

        threading.Thread(target=work, daemon=True, name=f"appcat {self._what}").start()
        return future

    def _tell(self, loop: asyncio.AbstractEventLoop, news: Callable[[], None]) -> bool:
        """Whether the loop could be told; one that has ended does not listen."""

        def tell() -> None:
            self._count -= 1
            news()

        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(tell)
            return True
        return False


def _fail(future: asyncio.Future[T], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


def _look_at(future: asyncio.Future[T]) -> None:
    if not future.cancelled():
        future.exception()
