"""Pipes between the event loop and a service's thread: the loop never waits, the thread may.

The thread has blocking files, as every service expects; a full pipe makes it wait, an abandoned one ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from typing import Any, BinaryIO

CHUNK = 1 << 16


class Outlet:
    """From a thread to the loop: the thread writes ``file`` and closes it."""

    def __init__(self) -> None:
        self._descriptor, writer = os.pipe()
        os.set_blocking(self._descriptor, False)
        self.file: BinaryIO = os.fdopen(writer, "wb", 0)

    async def pieces(self) -> AsyncIterator[bytes]:
        """What the thread writes, up to its end."""
        while data := await self._read():
            yield data

    async def _read(self) -> bytes:
        loop = asyncio.get_running_loop()
        while self._descriptor >= 0:
            try:
                return os.read(self._descriptor, CHUNK)
            except BlockingIOError:
                await _ready(self._descriptor, loop.add_reader, loop.remove_reader)
        return b""

    def abandon(self) -> None:
        """Read no more: who writes is told so (BrokenPipeError). Nobody may be in ``pieces``."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Inlet:
    """From the loop to a thread: the thread reads ``file`` and closes it."""

    def __init__(self) -> None:
        reader, self._descriptor = os.pipe()
        os.set_blocking(self._descriptor, False)
        self.file: BinaryIO = os.fdopen(reader, "rb", 0)

    async def write(self, data: bytes) -> bool:
        """Pass all of ``data`` on, as fast as it is read; False when nobody reads any more."""
        loop = asyncio.get_running_loop()
        left = memoryview(data)
        while left:
            if self._descriptor < 0:
                return False
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:
                await _ready(self._descriptor, loop.add_writer, loop.remove_writer)
            except BrokenPipeError:
                return False
        return True

    def close(self) -> None:
        """The end of it. Nobody may be in ``write``."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


async def _ready(descriptor: int, add: Callable[..., Any], remove: Callable[[int], Any]) -> None:
    ready = asyncio.Event()
    add(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        remove(descriptor)


async def ended(task: asyncio.Future[Any]) -> None:
    """Cancel a task and wait until it is over, whatever it says."""
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError, Exception):
        await task
