"""File locks (flock): they end with the process that holds them, so a crash never leaves one behind.

``op.lock`` says in its text who holds it. ``run.lock`` is handed down to QEMU: flock belongs to the open file
description, so it stays held until the last process that inherited the descriptor is gone.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from appcat.checks import Check, unchecked
from appcat.errors import Busy, NotFound, Unavailable, from_os_error

POLL = 0.02
DEFAULT_WAIT = 30.0
_NOT_SUPPORTED = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


@dataclass(frozen=True)
class Holder:
    """Who holds a lock, as its text says."""

    verb: str
    pid: int


def open_lock(path: Path) -> int:
    """A descriptor of the lock file, made when missing; raises NotFound when its directory is gone."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError as error:
        raise NotFound(f"{path.parent.name} does not exist", hint="see 'appcat vm list'") from error
    except OSError as error:
        raise from_os_error(error, f"opening {path}") from error


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Take the lock now or not at all; raises Unavailable on a file system that has no locks."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NOT_SUPPORTED:
            raise Unavailable(
                f"the file system of {_path_of(descriptor)} has no file locks ({error.strerror})",
                hint="set APPCAT_HOME to a directory on a local file system",
                code="no-file-locks",
            ) from error
        raise
    return True


def lock_within(descriptor: int, wait: float, *, shared: bool = False, check: Check = unchecked) -> bool:
    """Try to take the lock for ``wait`` seconds; raises what ``check`` raises while it waits."""
    deadline = time.monotonic() + wait
    while not try_lock(descriptor, shared=shared):
        if time.monotonic() >= deadline:
            return False
        check()
        time.sleep(POLL)
    return True


@contextlib.contextmanager
def hold(path: Path, verb: str, *, wait: float = DEFAULT_WAIT, check: Check = unchecked) -> Iterator[None]:
    """Hold ``path`` exclusively while doing ``verb``.

    Waits at most ``wait`` seconds, calling ``check``, then raises Busy naming the holder. Raises NotFound when the
    directory of the lock was removed meanwhile: a lock on a deleted file protects nothing.
    """
    descriptor = open_lock(path)
    try:
        if not lock_within(descriptor, wait, check=check):
            raise busy(path)
        if not _still_there(descriptor, path):
            raise NotFound(f"{path.parent.name} does not exist", hint="it has just been deleted")
        _sign(descriptor, verb)
        yield
    finally:
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether somebody holds ``path`` exclusively now. A missing file is free."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        return not try_lock(descriptor, shared=True)
    finally:
        os.close(descriptor)


def holder(path: Path) -> Holder | None:
    """Who holds ``path``, or None when it is free."""
    return _signature(path) if is_held(path) else None


def busy(path: Path) -> Busy:
    """The error for a lock that is held: ``web is busy: clone``."""
    who = _signature(path)
    verb = who.verb if who else "another command"
    by = f" (process {who.pid})" if who else ""
    return Busy(f"{path.parent.name} is busy: {verb}{by}", hint="wait for it to end, then try again")


def _sign(descriptor: int, verb: str) -> None:
    text = json.dumps({"verb": verb, "pid": os.getpid()}).encode()
    with contextlib.suppress(OSError):  # a full disk must not keep anyone from stopping a vm
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text, 0)


def _signature(path: Path) -> Holder | None:
    try:
        data = json.loads(path.read_bytes())
        return Holder(str(data["verb"]), int(data["pid"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _still_there(descriptor: int, path: Path) -> bool:
    try:
        named = path.stat()
    except FileNotFoundError:
        return False
    opened = os.fstat(descriptor)
    return (named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino)


def _path_of(descriptor: int) -> str:
    try:
        return str(Path(f"/proc/self/fd/{descriptor}").readlink().parent)
    except OSError:
        return "APPCAT_HOME"
