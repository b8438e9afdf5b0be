"""The event log: what happened in a home, one JSON document a line, in two segments of bounded size.

Whoever writes holds ``events.lock``, whose text is the last id given. The id that follows is one more than that and
than any that the log itself has: so ids go on after a rotation, after a write that was cut off, and after the log's
removal. A line counts once its end is there. What a writer that was killed, or a full disk, left without an end is cut
off by the next writer; what else cannot be read is passed over.

Nothing is synced: a host that loses its power may lose the last seconds of the log, and their ids are given again.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from appcat.errors import AppcatError, Conflict, from_os_error
from appcat.model import codec
from appcat.model.event import SCHEMA, Event
from appcat.ready import readable
from appcat.store import locks
from appcat.store.files import claim_runtime_directory, unlink
from appcat.store.layout import Layout

log = logging.getLogger(__name__)

KIND = codec.Kind("event", SCHEMA)
SEGMENT = 1 << 20
LONGEST_LINE = 64 << 10
TAIL = 4 << 10
# Seconds to wait for the lock. Others hold it for less than a millisecond; one that was stopped must not stop a verb.
PATIENCE = 1.0
BATCH = 1000


class Lost(Conflict):
    """Events that followed the id ``after`` are gone, or it was never given; what is kept begins with ``first``."""

    code = "events-lost"

    def __init__(self, after: int, first: int, last: int) -> None:
        gone = f"events {after + 1} to {first - 1} are gone" if after < first else f"there is no event {after}"
        super().__init__(f"{gone}; the last one is {last}", hint=f"look at the vms anew, then go on after {first - 1}")
        self.after = after
        self.first = first


@dataclass(frozen=True)
class EventLog:
    """The log of one home; holds no state."""

    layout: Layout

    def append(self, kind: str, vm: str = "", uuid: str = "", detail: Mapping[str, object] | None = None) -> Event:
        """Write an event and poke whoever listens; never raises: one of id 0 was not written, and the log says why.

        Takes a fraction of a millisecond: the file is not synced.
        """
        event = Event(0, timestamp(), str(kind), vm, uuid, dict(detail or {}))
        try:
            event = self._append(event)
        except (OSError, AppcatError, ValueError, TypeError) as error:
            log.warning("the event %s of %s was not written: %s", kind, vm or "the home", error)
            return event
        poke(self.layout)
        return event

    def read(self, after: int, limit: int = BATCH) -> list[Event]:
        """The first ``limit`` events with an id above ``after``; 0 means all that are kept.

        Raises Lost when some that followed ``after`` are gone, or ``after`` was never given here; Unavailable.
        """
        older, current, last = self._segments()
        first = _first_id(older) or _first_id(current) or last + 1
        if after > last or 0 < after < first - 1:
            raise Lost(after, first, last)
        found: list[Event] = []
        for data in (older, current):
            if len(found) < limit:
                found += _events(data, after, limit - len(found))
        return found

    def last_id(self) -> int:
        """The id of the newest event; 0 before the first."""
        return self._segments()[2]

    def first_id(self) -> int:
        """The id of the oldest event that is kept; that of the next one when none is."""
        older, current, last = self._segments()
        return _first_id(older) or _first_id(current) or last + 1

    def mark(self) -> tuple[int, ...] | None:
        """Something that is another after each append: a cheap look for who waits without a ``Listener``."""
        try:
            found = self.layout.events.stat()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise from_os_error(error, "looking at the events") from error
        return found.st_ino, found.st_size, found.st_mtime_ns

    @property
    def _older(self) -> Path:
        return self.layout.events.with_name(self.layout.events.name + ".1")

    def _append(self, event: Event) -> Event:
        lock = locks.open_lock(self.layout.events_lock)
        try:
            if not locks.lock_within(lock, PATIENCE):
                raise locks.busy(self.layout.events_lock)
            file = self._open()
            try:
                return self._write(file, lock, event)
            finally:
                os.close(file)
        finally:
            os.close(lock)

    def _open(self) -> int:
        return os.open(self.layout.events, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def _write(self, file: int, lock: int, event: Event) -> Event:
        size = _repaired(file)
        last = max(_noted(lock), _last_id_in(file, size))
        if last == 0:
            last = _last_id(_content(self._older))
        event = replace(event, id=last + 1, time=timestamp())  # under the lock: in the order of the ids
        line = _line(event)
        if size and size + len(line) > SEGMENT:
            self.layout.events.replace(self._older)
            file = self._open()
            try:
                _write_whole(file, line, 0)
            finally:
                os.close(file)
        else:
            _write_whole(file, line, size)
        with contextlib.suppress(OSError):  # the log says it as well
            os.pwrite(lock, b"%020d\n" % event.id, 0)
        return event

    def _segments(self) -> tuple[bytes, bytes, int]:
        """Both segments as they are at one moment, cut to whole lines, and the last id; raises Unavailable."""
        try:
            with self._undisturbed() as noted:
                older, current = _content(self._older), _content(self.layout.events)
        except OSError as error:
            raise from_os_error(error, "reading the events") from error
        return older, current, max(noted, _last_id(current) or _last_id(older))

    @contextlib.contextmanager
    def _undisturbed(self) -> Iterator[int]:
        """Keep writers out, unless one was stopped while it wrote; gives the last id that they noted."""
        try:
            lock = os.open(self.layout.events_lock, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # nothing was ever written
            yield 0
            return
        try:
            locks.lock_within(lock, PATIENCE, shared=True)
            yield _noted(lock)
        finally:
            os.close(lock)


def timestamp() -> str:
    """This moment in RFC 3339 UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _line(event: Event) -> bytes:
    line = codec.dumps_line(event, KIND)
    if len(line) <= LONGEST_LINE:
        return line
    return codec.dumps_line(replace(event, detail={"omitted": f"{len(line)} bytes"}), KIND)


def _write_whole(file: int, line: bytes, size: int) -> None:
    """Append all of ``line`` or nothing to a file of ``size`` bytes; raises OSError."""
    try:
        written = os.write(file, line)
        if written != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except BaseException:
        with contextlib.suppress(OSError):
            os.ftruncate(file, size)
        raise


def _repaired(file: int) -> int:
    """The size of a log, once a last line without an end has been cut off. No reader has taken it for an event."""
    size = whole = os.fstat(file).st_size
    if size == 0 or os.pread(file, 1, size - 1) == b"\n":
        return size
    while whole > 0:
        start = max(whole - TAIL, 0)
        end = os.pread(file, whole - start, start).rfind(b"\n")
        if end >= 0:
            whole = start + end + 1
            break
        whole = start
    log.warning("%d bytes at the end of the event log were cut off: a line without its end", size - whole)
    os.ftruncate(file, whole)
    return whole


def _noted(lock: int) -> int:
    """The last id as the lock's text has it; 0 when it has none."""
    try:
        return int(os.pread(lock, 64, 0))
    except (OSError, ValueError):
        return 0


def _last_id_in(file: int, size: int) -> int:
    """The last id in a repaired log: its end is looked at first."""
    start = max(size - TAIL, 0)
    end = os.pread(file, size - start, start)
    if start:
        end = end[end.find(b"\n") + 1 :]
    return _last_id(end) or (_last_id(os.pread(file, size, 0)) if start else 0)


def _content(path: Path) -> bytes:
    """The whole lines of a segment; nothing when there is none."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return b""
    return data[: data.rfind(b"\n") + 1]


def _id_of(line: bytes) -> int:
    """The id in a line; 0 in one that cannot be read."""
    try:
        found = json.loads(line)["id"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return 0
    return found if type(found) is int and found > 0 else 0


def _last_id(data: bytes) -> int:
    end = len(data)
    while end > 0:
        start = data.rfind(b"\n", 0, end - 1) + 1
        if found := _id_of(data[start:end]):
            return found
        end = start
    return 0


def _first_id(data: bytes) -> int:
    return _readable(data, 0, len(data))[1]


def _readable(data: bytes, start: int, end: int) -> tuple[int, int]:
    """Where the first readable line from ``start`` on ends, and its id; ``end`` and 0 when there is none before."""
    while start < end:
        stop = data.find(b"\n", start) + 1
        if found := _id_of(data[start:stop]):
            return stop, found
        start = stop
    return end, 0


def _position_after(data: bytes, after: int) -> int:
    """Where the first line with an id above ``after`` begins: halving, since a segment has thousands."""
    low, high = 0, len(data)
    while low < high:
        start = max(data.rfind(b"\n", low, (low + high) // 2) + 1, low)
        end, found = _readable(data, start, high)
        if found == 0 or found > after:
            high = start
        else:
            low = end
    return low


def _events(data: bytes, after: int, limit: int) -> Iterator[Event]:
    start = _position_after(data, after)
    while start < len(data) and limit > 0:
        stop = data.find(b"\n", start) + 1
        event = _event(data[start:stop])
        if event is not None and event.id > after:
            yield event
            limit -= 1
        start = stop


def _event(line: bytes) -> Event | None:
    """The event in a line; None for one that is damaged or from a newer appcat."""
    try:
        return codec.loads(Event, line, KIND)
    except (AppcatError, UnicodeDecodeError):
        return None


def poke(layout: Layout) -> None:
    """Tell whoever listens that there is something new; nobody there, or one who is behind, is fine."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.sendto(b"e", str(layout.events_listener))


class Listener:
    """The one who is poked at each event: the home's daemon. A context manager.

    Takes the place of what an earlier one left. Raises Unavailable when the runtime directory is not ours, or no socket
    can be made in it.
    """

    def __init__(self, layout: Layout) -> None:
        self._path = layout.events_listener
        claim_runtime_directory(self._path.parent)
        # Under another name first: a writer finds the old socket or the new one, never none.
        temporary = self._path.with_name(f".listener-{os.getpid()}.sock")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            unlink(temporary)
            self._socket.bind(str(temporary))
            self._inode = temporary.stat().st_ino
            temporary.replace(self._path)
        except OSError as error:
            self._socket.close()
            raise from_os_error(error, "listening for events") from error

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        """The descriptor, for select: readable once there is something new."""
        return self._socket.fileno()

    def wait(self, timeout: float) -> bool:
        """Whether something happened since the last call, within ``timeout`` seconds. Pokes are not counted."""
        found = readable(self._socket, timeout)
        if found:
            with contextlib.suppress(BlockingIOError):
                while True:
                    self._socket.recv(64)
        return found

    def close(self) -> None:
        """Listen no more; the socket goes, unless somebody else's is in its place."""
        self._socket.close()
        with contextlib.suppress(OSError):
            if self._path.stat().st_ino == self._inode:
                self._path.unlink()
