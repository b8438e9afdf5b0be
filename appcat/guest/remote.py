"""A command in a guest, on an SSH connection: its streams, its status, its end.

SSH can signal no more than the command's first process. So the command runs in a process group of its own, whose number
its shell tells in the first line of standard error, and whoever wants it ended signals the whole group.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from appcat.errors import DeadlineExceeded, GuestError, from_os_error

if TYPE_CHECKING:
    import paramiko

CHUNK = 32768
START_PATIENCE = 30.0
SIGNAL_PATIENCE = 5.0

# Lead a group, by way of setsid unless the SSH server has seen to that; tell its number; pass the status on (a shell
# turns death by signal n into 128 + n).
_LEAD = "kill -0 -- -$$ 2>/dev/null && lead= || lead=setsid; exec $lead sh -c "
_INNER = 'echo $$ >&2; "$@"; exit $?'


@dataclass(frozen=True)
class Streams:
    """What a command's standard streams are joined to; no ``stdin`` means an empty one."""

    stdin: BinaryIO | None
    stdout: BinaryIO
    stderr: BinaryIO


def run(transport: paramiko.Transport, command: Sequence[str], streams: Streams, deadline: float | None) -> int:
    """Run ``command`` and return its exit status, 128 + n when signal n ended it; its output is passed on as it comes.

    After ``deadline`` (monotonic seconds), on an interrupt, and when its output cannot be written, the command is ended
    with all its children. Raises DeadlineExceeded, KeyboardInterrupt, BrokenPipeError, InsufficientSpace, GuestError.
    """
    import paramiko

    try:
        channel = transport.open_session()
        channel.exec_command(f"{_LEAD}{shlex.quote(_INNER)} sh {shlex.join(command)}")
        group = _read_group(channel, deadline)
        try:
            return _join(channel, streams, deadline)
        except KeyboardInterrupt:
            _signal(transport, group, "INT")
            raise
        except BaseException:
            _signal(transport, group, "KILL")
            raise
        finally:
            channel.close()
    except (paramiko.SSHException, EOFError) as error:
        raise GuestError(f"the SSH connection was lost: {error}", hint="see 'appcat vm list'") from error


def _read_group(channel: paramiko.Channel, deadline: float | None) -> int:
    """The first line of standard error."""
    channel.settimeout(START_PATIENCE if deadline is None else max(deadline - time.monotonic(), 0.01))
    line = b""
    try:
        while not line.endswith(b"\n"):
            byte = channel.recv_stderr(1)
            if not byte:
                break
            line += byte
    except TimeoutError as error:
        raise _overdue() from error
    channel.settimeout(None)
    if not line.strip().isdigit():
        raise GuestError(f"the guest's shell does not work: {line.decode(errors='replace').strip()}")
    return int(line)


def _join(channel: paramiko.Channel, streams: Streams, deadline: float | None) -> int:
    pumps = [_Pump(channel, channel.recv, streams.stdout), _Pump(channel, channel.recv_stderr, streams.stderr)]
    ended = threading.Event()
    feeder = threading.Thread(target=_feed, args=(channel, streams.stdin, ended), daemon=True)
    for thread in (*pumps, feeder):
        thread.start()
    try:
        for pump in pumps:
            pump.join(None if deadline is None else max(deadline - time.monotonic(), 0))
            if pump.is_alive():
                raise _overdue()
        for pump in pumps:
            pump.check()
        if not channel.status_event.wait(START_PATIENCE if deadline is None else max(deadline - time.monotonic(), 0.1)):
            raise _overdue()
    finally:
        ended.set()
    if channel.exit_status < 0:
        raise GuestError("the command ended without an exit status: the connection was lost", hint="is the vm running?")
    return channel.exit_status


class _Pump(threading.Thread):
    """Passes on what the guest says; when that cannot be written, hangs up, and ``check`` raises the reason."""

    def __init__(self, channel: paramiko.Channel, receive: Callable[[int], bytes], target: BinaryIO) -> None:
        super().__init__(daemon=True)
        self._channel, self._receive, self._target = channel, receive, target
        self._error: OSError | None = None

    def run(self) -> None:
        try:
            while chunk := self._receive(CHUNK):
                _write_all(self._target, chunk)
        except OSError as error:
            self._error = error
            self._channel.close()

    def check(self) -> None:
        """Raise what went wrong."""
        if isinstance(self._error, BrokenPipeError):
            raise self._error
        if self._error is not None:
            raise from_os_error(self._error, "writing the command's output") from self._error


def _write_all(target: BinaryIO, data: bytes) -> None:
    """Write and flush; an unbuffered target takes what it can at a time."""
    left = memoryview(data)
    while left:
        left = left[target.write(left) :]
    target.flush()


def _feed(channel: paramiko.Channel, source: BinaryIO | None, ended: threading.Event) -> None:
    """Pass standard input on until it or the command ends; never block on a terminal nobody types at."""
    with contextlib.suppress(OSError, ValueError, EOFError):
        while source is not None and not ended.is_set():
            readable, _, _ = select.select([source], [], [], 0.2)
            if not readable:
                continue
            chunk = os.read(source.fileno(), CHUNK)
            if not chunk:
                break
            channel.sendall(chunk)
        channel.shutdown_write()


def _signal(transport: paramiko.Transport, group: int, name: str) -> None:
    """Signal the command and all its children; a guest that is past hearing is fine."""
    import paramiko

    with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
        channel = transport.open_session(timeout=SIGNAL_PATIENCE)
        channel.exec_command(f"kill -{name} -- -{group}")
        channel.status_event.wait(SIGNAL_PATIENCE)
        channel.close()


def _overdue() -> DeadlineExceeded:
    return DeadlineExceeded("the command did not end in the time it was given", hint="raise --timeout")
