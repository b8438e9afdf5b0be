"""Waiting for descriptors, however high their numbers are: select(2) knows none from 1024 on, and a daemon has them.

poll(2) knows all, but on macOS no terminals; those are of a command's low numbers.
"""

from __future__ import annotations

import select
from collections.abc import Sequence
from typing import Protocol, TypeVar

SELECTABLE = 1024


class File(Protocol):
    """What has a descriptor."""

    def fileno(self) -> int:
        """It."""
        ...


F = TypeVar("F", bound=File)


def ready(reading: Sequence[F], writing: Sequence[F], seconds: float | None) -> tuple[list[F], list[F]]:
    """Which of ``reading`` can be read, and of ``writing`` written, now or within so many seconds (None: for ever).

    One at its end, or broken, can be both: the attempt tells.
    """
    if all(file.fileno() < SELECTABLE for file in (*reading, *writing)):
        readable, writable, _ = select.select(reading, writing, [], seconds)
        return readable, writable
    poll = select.poll()
    wanted: dict[int, int] = {}
    for files, events in ((reading, select.POLLIN), (writing, select.POLLOUT)):
        for file in files:
            wanted[file.fileno()] = wanted.get(file.fileno(), 0) | events
    for descriptor, events in wanted.items():
        poll.register(descriptor, events)
    found = dict(poll.poll(None if seconds is None else seconds * 1000))
    broken = select.POLLHUP | select.POLLERR | select.POLLNVAL
    return (
        [file for file in reading if found.get(file.fileno(), 0) & (select.POLLIN | broken)],
        [file for file in writing if found.get(file.fileno(), 0) & (select.POLLOUT | broken)],
    )


def readable(file: File, seconds: float | None) -> bool:
    """Whether ``file`` can be read within so many seconds."""
    return bool(ready([file], [], seconds)[0])
