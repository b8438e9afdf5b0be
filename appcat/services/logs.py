"""``logs``: what a vm's serial line, its QEMU and the keeper have said, and what they go on saying."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from appcat.services.context import Context
from appcat.services.observe import is_alive

POLL = 0.1
CHUNK = 1 << 16
CONTEXT = 256
SNAPSHOTS = 100


class Source(StrEnum):
    """Whose words."""

    CONSOLE = "console"
    QEMU = "qemu"
    KEEPER = "keeper"


def nobody_told() -> None:
    """Lines were lost and nobody asked to be told."""


def logs(
    ctx: Context,
    name: str,
    source: Source = Source.CONSOLE,
    *,
    tail: int | None = None,
    follow: bool = False,
    lost: Callable[[], None] = nobody_told,
) -> Iterator[bytes]:
    """The log in pieces as they come: its last ``tail`` lines, or all; ``follow`` goes on until the vm's QEMU is gone.

    Of the keeper's log, only lines about this vm. ``lost`` is called when the log was cut faster than it was read.
    Raises NotFound, InvalidInput.
    """
    with contextlib.closing(follow_log(ctx, name, source, lost=lost)) as following:
        yield from following.begin(tail, over=not follow)
        while follow:
            going_on = following.goes_on()
            yield from following.more()  # after the look, so that last words are not missed
            if not going_on:
                yield from following.rest()
                return
            time.sleep(POLL)


@dataclass
class Following:
    """One reader of a log, who decides himself when to look again; close it."""

    log: Log
    goes_on: Callable[[], bool]
    about: re.Pattern[bytes] | None = None
    _begun: bytearray = field(default_factory=bytearray)

    def close(self) -> None:
        """Let go of the file."""
        self.log.close()

    def begin(self, tail: int | None = None, *, over: bool = False) -> Iterator[bytes]:
        """What there is by now: all, or the last ``tail`` lines; ``over`` when nobody will ask for more."""
        pieces = self._chosen(self.log.begin())
        if over:
            pieces = itertools.chain(pieces, self.rest())
        return pieces if tail is None else last_lines(pieces, tail)

    def more(self) -> Iterator[bytes]:
        """What has come since; never waits."""
        return self._chosen(self.log.more())

    def rest(self) -> Iterator[bytes]:
        """Of a log that is over, a last line without its end."""
        begun, self._begun = bytes(self._begun), bytearray()
        if self.about is not None and self.about.search(begun):
            yield begun

    def _chosen(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """All of it, or whole lines that are ``about`` the vm."""
        if self.about is None:
            yield from pieces
            return
        for piece in pieces:
            self._begun += piece
            *whole, rest = self._begun.split(b"\n")
            self._begun = rest
            yield from (bytes(line) + b"\n" for line in whole if self.about.search(line))


def follow_log(
    ctx: Context, name: str, source: Source = Source.CONSOLE, *, lost: Callable[[], None] = nobody_told
) -> Following:
    """A reader of one of a vm's logs; it ``goes_on`` while the vm's QEMU lives. Raises NotFound, InvalidInput."""
    paths = ctx.store.find(name)
    files = {Source.CONSOLE: paths.console_log, Source.QEMU: paths.qemu_log, Source.KEEPER: ctx.layout.keeper_log}
    about = re.compile(rb"(?<![\w.-])" + re.escape(name.encode()) + rb"(?![\w.-])") if source is Source.KEEPER else None
    return Following(Log(files[source], lost), lambda: is_alive(ctx, name), about)


def last_lines(pieces: Iterator[bytes], count: int) -> Iterator[bytes]:
    """The last ``count`` lines of all; a last one without its end counts."""
    kept = b""
    for piece in pieces:
        kept = _cut(kept + piece, count)
    if kept and count > 0:
        yield kept


def _cut(data: bytes, count: int) -> bytes:
    position = len(data) - 1 if data.endswith(b"\n") else len(data)
    for _ in range(count):
        position = data.rfind(b"\n", 0, position)
        if position < 0:
            return data
    return data[position + 1 :]


def lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same line by line, each with its end; the last one perhaps without."""
    begun = bytearray()
    for piece in pieces:
        begun += piece
        *whole, rest = begun.split(b"\n")
        yield from (bytes(line) + b"\n" for line in whole)
        begun = rest
    if begun:
        yield bytes(begun)


@dataclass
class Log:
    """A log that its writer appends to, and that the keeper copies to ``.1`` and cuts to nothing when it is large.

    The place up to which it was read is known by the bytes before it: other bytes there mean that the file was cut. At
    the start of the file, where there are none, a new copy means that.
    """

    path: Path
    lost: Callable[[], None] = nobody_told
    _descriptor: int = -1
    _position: int = 0
    _before: bytes = field(default=b"", repr=False)
    _known: tuple[int, int] | None = None  # the copy whose contents have been seen

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def begin(self) -> Iterator[bytes]:
        """All there is, the older file first."""
        older, end = self._snapshot()
        if older:
            yield older
        while self._position < end:
            pieces = list(self.more(end))
            if not pieces:
                return
            yield from pieces

    def skip(self) -> None:
        """Leave out what there is."""
        for _ in self.begin():
            pass

    def more(self, end: int | None = None) -> Iterator[bytes]:
        """What was appended since, up to offset ``end`` if it is given; a cut in between loses nothing it kept."""
        while self._open():
            data = os.pread(self._descriptor, len(self._before) + CHUNK, self._position - len(self._before))
            if not data.startswith(self._before) or (not self._before and self._was_cut_unread(data)):
                yield from self._after_cut()
                end = None
                continue
            fresh = data[len(self._before) :]
            if end is not None:
                fresh = fresh[: max(end - self._position, 0)]
            if not fresh:
                return
            self._advance(fresh)
            yield fresh

    def _after_cut(self) -> Iterator[bytes]:
        """The rest of what was cut, from its copy."""
        position, before = self._position, self._before
        self._position, self._before, self._known = 0, b"", self._mark()
        with contextlib.suppress(FileNotFoundError), self._older.open("rb") as file:
            file.seek(0, os.SEEK_END)
            # Shorter: the copy was made a moment before the cut, and we had read on.
            if file.tell() <= position:
                return
            file.seek(position - len(before))
            if file.read(len(before)) != before:  # cut more than once since the last look
                self.lost()
                file.seek(0)
            yield from iter(lambda: file.read(CHUNK), b"")

    def _was_cut_unread(self, data: bytes) -> bool:
        """Whether the file, of which nothing has been read and which now starts with ``data``, was cut before that."""
        if self._mark() in (None, self._known):
            return False
        with contextlib.suppress(FileNotFoundError), self._older.open("rb") as file:
            start = file.read(CONTEXT)
            return not data.startswith(start)  # else it is being copied, and not cut yet
        return False

    @property
    def _older(self) -> Path:
        return self.path.with_name(self.path.name + ".1")

    def _snapshot(self) -> tuple[bytes, int]:
        """What the older file holds, and the size of the log, of one moment between two cuts."""
        older, size = b"", 0
        for _ in range(SNAPSHOTS):
            mark = self._mark()
            size = os.fstat(self._descriptor).st_size if self._open() else 0
            with contextlib.suppress(FileNotFoundError):
                older = self._older.read_bytes()
            if mark == self._mark():
                self._known = mark
                break
            time.sleep(POLL / 10)
        return older, size

    def _mark(self) -> tuple[int, int] | None:
        with contextlib.suppress(FileNotFoundError):
            found = self._older.stat()
            return found.st_size, found.st_mtime_ns
        return None

    def _open(self) -> bool:
        if self._descriptor < 0:
            self._descriptor = -1 if (opened := _open_or_none(self.path)) is None else opened
        return self._descriptor >= 0

    def _advance(self, fresh: bytes) -> None:
        self._position += len(fresh)
        self._before = (self._before + fresh)[-CONTEXT:]


def _open_or_none(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
