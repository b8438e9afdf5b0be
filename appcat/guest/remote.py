"""A command in a guest, on an SSH connection: its streams, its status, its end.

SSH can signal no more than the command's first process. So the command runs in a process group of its own, whose number
its shell tells in the first line of standard error, and whoever wants it ended signals the whole group.

A guest may stall at any moment. What asks it something is an errand, and this thread only looks after that
(``patience``): nothing here waits beyond the deadline, START_PATIENCE or SIGNAL_PATIENCE.
"""

from __future__ import annotations

import contextlib
import math
import os
import shlex
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, BinaryIO

from appcat.errors import DeadlineExceeded, GuestError, from_os_error
from appcat.guest.patience import Errand, Signals, has_ended, held
from appcat.ready import readable

if TYPE_CHECKING:
    import paramiko

CHUNK = 32768
START_PATIENCE = 30.0
SIGNAL_PATIENCE = 10.0
SIZE_EVERY = 0.1

# What a login shell of the guest knows of a proxy (``guest.surroundings``): a look, no process.
PROXY_SCRIPT = "/etc/profile.d/appcat-proxy.sh"
_VARIABLES = f"[ ! -r {PROXY_SCRIPT} ] || . {PROXY_SCRIPT}"

# Lead a group, by way of setsid unless the SSH server has seen to that; tell its number; pass the status on (a shell
# turns death by signal n into 128 + n).
_LEAD = "kill -0 -- -$$ 2>/dev/null && lead= || lead=setsid; exec $lead sh -c "
_INNER = f'echo $$ >&2; {_VARIABLES}; "$@"; exit $?'

# The shell outlives what the keys of a terminal send to both, so that it can tell the command's status.
_ON_TERMINAL = f'trap : INT QUIT; {_VARIABLES}; "$@"; exit $?'


@dataclass(frozen=True)
class Streams:
    """What a command's standard streams are joined to; no ``stdin`` means an empty one."""

    stdin: BinaryIO | None
    stdout: BinaryIO
    stderr: BinaryIO


@dataclass(frozen=True)
class Terminal:
    """The terminal a command runs on: its kind (``TERM``) and what tells its present columns and rows."""

    kind: str
    size: Callable[[], tuple[int, int]]


@dataclass(frozen=True)
class _Started:
    """A command that runs; ``group`` is its process group where it has told one."""

    channel: paramiko.Channel
    group: int | None = None


def run(transport: paramiko.Transport, command: Sequence[str], streams: Streams, deadline: float | None) -> int:
    """Run ``command`` and return its exit status, 128 + n when signal n ended it; its output is passed on as it comes.

    After ``deadline`` (monotonic seconds), on an interrupt, and when its output cannot be written, the command is ended
    with all its children. A second interrupt does not wait for that. Raises DeadlineExceeded, KeyboardInterrupt,
    BrokenPipeError, InsufficientSpace, GuestError.
    """
    line = f"{_LEAD}{shlex.quote(_INNER)} sh {shlex.join(command)}"
    with _connection(), held() as signals:
        starting = Errand(lambda: _start(transport, line))
        try:
            return _join(signals, _started(signals, starting, deadline).channel, streams, deadline)
        except KeyboardInterrupt:
            _end(signals, transport, starting, "INT")
            raise
        except BaseException:
            _end(signals, transport, starting, "KILL")
            raise
        finally:
            _hang_up(signals, transport, starting)


def run_on_terminal(
    transport: paramiko.Transport, command: Sequence[str], streams: Streams, terminal: Terminal, deadline: float | None
) -> int:
    """As ``run``, on a terminal in the guest that keeps the size of ours; standard error comes with the output.

    Keys such as Ctrl-C reach the command through its terminal. When we leave early the guest's terminal hangs up, which
    ends the session. Raises as ``run``.
    """
    line = f"exec sh -c {shlex.quote(_ON_TERMINAL)} sh {shlex.join(command)}"
    size = terminal.size()
    with _connection(), held() as signals:
        starting = Errand(lambda: _start_on_terminal(transport, line, terminal.kind, size))
        try:
            channel = _started(signals, starting, deadline).channel
            keeper = _SizeKeeper(channel, terminal, size)
            keeper.start()
            try:
                return _join(signals, channel, streams, deadline)
            finally:
                keeper.ended.set()
        finally:
            _hang_up(signals, transport, starting)


@contextlib.contextmanager
def _connection() -> Iterator[None]:
    """Raise GuestError when the connection is lost meanwhile."""
    import paramiko

    try:
        yield
    except (paramiko.SSHException, EOFError) as error:
        raise GuestError(f"the SSH connection was lost: {error}", hint="see 'appcat vm list'") from error


def _start(transport: paramiko.Transport, line: str) -> _Started:
    channel = transport.open_session()
    channel.exec_command(line)
    return _Started(channel, _read_group(channel))


def _start_on_terminal(transport: paramiko.Transport, line: str, kind: str, size: tuple[int, int]) -> _Started:
    channel = transport.open_session()
    channel.get_pty(kind, *size)
    channel.exec_command(line)
    return _Started(channel)


def _started(signals: Signals, starting: Errand[_Started], deadline: float | None) -> _Started:
    if signals.wait(starting.ended, deadline_in(START_PATIENCE) if deadline is None else deadline):
        return starting.result()
    if deadline is not None:
        raise _overdue()
    raise DeadlineExceeded(
        f"the guest did not start the command within {START_PATIENCE:g} s",
        hint="see its console log with 'appcat vm logs'",
    )


def _hang_up(signals: Signals, transport: paramiko.Transport, starting: Errand[_Started]) -> None:
    """Close the channel; where none was opened in time the connection, so that nothing of it goes on waiting."""
    if starting.succeeded():
        signals.wait(Errand(starting.result().channel.close).ended, deadline_in(SIGNAL_PATIENCE))
    else:
        transport.close()


class _SizeKeeper(threading.Thread):
    """Tells the guest when our terminal's size changes.

    It looks, rather than being told by SIGWINCH: a window that is dragged changes hundreds of times a second.
    """

    def __init__(self, channel: paramiko.Channel, terminal: Terminal, known: tuple[int, int]) -> None:
        super().__init__(daemon=True)
        self._channel, self._terminal, self._known = channel, terminal, known
        self.ended = threading.Event()

    def run(self) -> None:
        import paramiko

        with contextlib.suppress(paramiko.SSHException, EOFError, OSError):
            while not self.ended.wait(SIZE_EVERY):
                found = self._terminal.size()
                if found != self._known:
                    self._channel.resize_pty(*found)
                    self._known = found


def _read_group(channel: paramiko.Channel) -> int:
    """The first line of standard error."""
    line = b""
    while not line.endswith(b"\n"):
        byte = channel.recv_stderr(1)
        if not byte:
            break
        line += byte
    if not line and channel.closed:
        raise EOFError("it closed before the command began")
    if not line.strip().isdigit():
        raise GuestError(f"the guest's shell does not work: {line.decode(errors='replace').strip()}")
    return int(line)


def _join(signals: Signals, channel: paramiko.Channel, streams: Streams, deadline: float | None) -> int:
    pumps = [_Pump(channel, channel.recv, streams.stdout), _Pump(channel, channel.recv_stderr, streams.stderr)]
    ended = threading.Event()
    feeder = threading.Thread(target=_feed, args=(channel, streams.stdin, ended), daemon=True)
    for thread in (*pumps, feeder):
        thread.start()
    try:
        for pump in pumps:
            if not signals.wait(partial(has_ended, pump), math.inf if deadline is None else deadline):
                raise _overdue()
        for pump in pumps:
            pump.check()
        until = deadline_in(START_PATIENCE) if deadline is None else max(deadline, deadline_in(0.1))
        if not signals.wait(channel.status_event.wait, until):
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
                write_all(self._target, chunk)
        except OSError as error:
            self._error = error
            self._channel.close()

    def check(self) -> None:
        """Raise what went wrong."""
        if isinstance(self._error, BrokenPipeError):
            raise self._error
        if self._error is not None:
            raise from_os_error(self._error, "writing the command's output") from self._error


def write_all(target: BinaryIO, data: bytes) -> None:
    """Write and flush; an unbuffered target takes what it can at a time."""
    left = memoryview(data)
    while left:
        left = left[target.write(left) :]
    target.flush()


def _feed(channel: paramiko.Channel, source: BinaryIO | None, ended: threading.Event) -> None:
    """Pass standard input on until it or the command ends; never block on a terminal nobody types at."""
    with contextlib.suppress(OSError, ValueError, EOFError):
        while source is not None and not ended.is_set():
            if not readable(source, 0.2):
                continue
            chunk = os.read(source.fileno(), CHUNK)
            if not chunk:
                break
            channel.sendall(chunk)
        channel.shutdown_write()


def _end(signals: Signals, transport: paramiko.Transport, starting: Errand[_Started], name: str) -> None:
    """Signal the command and all its children, once it has told its group; a guest that is past hearing is fine."""
    until = deadline_in(SIGNAL_PATIENCE)
    if not signals.wait(starting.ended, until) or not starting.succeeded():
        return
    if group := starting.result().group:
        signalling = Errand(lambda: _signal(transport, group, name))
        if not signals.wait(signalling.ended, until):
            transport.close()  # so that nobody has to wait for the channel's end


def _signal(transport: paramiko.Transport, group: int, name: str) -> None:
    channel = transport.open_session(timeout=SIGNAL_PATIENCE)
    channel.exec_command(f"kill -{name} -- -{group}")
    channel.status_event.wait(SIGNAL_PATIENCE)
    channel.close()


def deadline_in(seconds: float) -> float:
    """The deadline that is so many seconds from now."""
    return time.monotonic() + seconds


def _overdue() -> DeadlineExceeded:
    return DeadlineExceeded("the command did not end in the time it was given", hint="raise --timeout")
