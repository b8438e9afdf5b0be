"""The daemon seen from outside: is it there, since when and where; starting, stopping, reaching it.

It is a process of its own (``python -m appcat.daemon``) with one per home. That ``daemon.lock`` is held says that it
runs; ``daemon.json`` says the rest, and only for the process that holds the lock.
"""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from appcat import __version__
from appcat.errors import AppcatError, Conflict, InvalidInput, Unavailable, WrongState
from appcat.model import codec
from appcat.model.listen import Listen, check_listen, parse_listen
from appcat.services import host_service, keeping
from appcat.services.context import Context
from appcat.services.host_service import DAEMON
from appcat.services.logs import Log, last_lines
from appcat.services.observe import is_alive
from appcat.store import locks
from appcat.store.files import make_private_directory

log = logging.getLogger(__name__)

KIND = codec.Kind("daemon.json", 1)
BACKGROUND = "--background"
FAILURE = "daemon failed: "  # leads the line of the log that says why it could not start, as JSON
START_DEADLINE = 60.0
STOP_GRACE = 10.0  # seconds that requests in flight have after SIGTERM
STOP_DEADLINE = STOP_GRACE + 10.0
POLL = 0.05
PROBE_TIMEOUT = 5.0
PROBE = b"GET /v1/health HTTP/1.1\r\nHost: appcat\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True)
class Doors:
    """Its doors besides the unix socket. ``tls_certificate`` and ``tls_key`` are files; else it makes its own."""

    listen: tuple[str, ...] = ()
    tls: bool = False
    tls_certificate: str | None = None
    tls_key: str | None = None

    def checked(self) -> list[Listen]:
        """The TCP addresses; raises InvalidInput for what must not, or cannot, be."""
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise InvalidInput("a certificate needs its key", hint="give both --tls-cert and --tls-key")
        listens = [parse_listen(text) for text in self.listen]
        if self.encrypted and not listens:
            raise InvalidInput("nothing is listened at that could be encrypted", hint="add --listen 127.0.0.1:8443")
        check_listen(listens, tls=self.encrypted)
        return listens

    @property
    def encrypted(self) -> bool:
        """Whether TCP doors speak TLS."""
        return self.tls or self.tls_certificate is not None

    def options(self) -> list[str]:
        """As options of the daemon's command line."""
        options = [word for text in self.listen for word in ("--listen", text)]
        options += ["--tls"] if self.tls else []
        options += ["--tls-cert", self.tls_certificate] if self.tls_certificate else []
        options += ["--tls-key", self.tls_key] if self.tls_key else []
        return options


@dataclass(frozen=True)
class State:
    """What a daemon says of itself. ``certificate`` is a file, ``fingerprint`` its SHA-256, ``since`` RFC 3339 UTC."""

    pid: int
    version: str
    since: str
    addresses: tuple[str, ...]
    doors: Doors = Doors()
    service: bool = False
    certificate: str | None = None
    fingerprint: str | None = None
    token_file: str | None = None

    @property
    def is_current(self) -> bool:
        """Whether it is of this version of appcat."""
        return self.version == __version__


def socket_url(ctx: Context) -> str:
    """The default door's address."""
    return f"unix://{ctx.layout.daemon_socket}"


def is_running(ctx: Context) -> bool:
    """Whether a daemon serves this home."""
    return locks.is_held(ctx.layout.daemon_lock)


def look(ctx: Context) -> State | None:
    """The running daemon, or None; of one that just starts only the process is known."""
    holder = locks.holder(ctx.layout.daemon_lock)
    if holder is None:
        return None
    try:
        state = codec.loads(State, ctx.layout.daemon_state.read_text(encoding="utf-8"), KIND)
    except (OSError, UnicodeDecodeError, AppcatError):
        state = None
    if state is None or state.pid != holder.pid:
        return State(holder.pid, "", "", ())
    return state


def already_running(ctx: Context) -> Conflict:
    """The error for a second daemon: it says which runs."""
    state = look(ctx)
    which = f" (process {state.pid}, {', '.join(state.addresses) or 'starting'})" if state else ""
    return Conflict(
        f"a daemon serves {ctx.layout.home} already{which}",
        hint="stop it first: appcat daemon stop",
        code="daemon-running",
    )


def start(ctx: Context, doors: Doors) -> State:
    """Start it in the background and wait until it answers; returns what runs.

    One that runs already is fine unless other doors are asked for: then Conflict. Raises InvalidInput for doors that
    cannot be, whatever kept the daemon from starting, Unavailable when it does not answer in time.
    """
    doors.checked()
    running = look(ctx)
    if running is not None and doors not in (Doors(), running.doors):
        raise _other_doors(running)
    make_private_directory(ctx.layout.home)
    child = None
    with Log(ctx.layout.daemon_log) as words:
        words.skip()
        if running is None:
            child = keeping.spawn(ctx, DAEMON.command(BACKGROUND, *doors.options()), ctx.layout.daemon_log)
        return _await_answer(ctx, child, words)


def _await_answer(ctx: Context, child: subprocess.Popen[bytes] | None, words: Log) -> State:
    deadline = time.monotonic() + START_DEADLINE
    while True:
        state = look(ctx)
        if state is not None and state.addresses and answers(ctx.layout.daemon_socket):
            return state
        if child is not None and child.poll() is not None and not is_running(ctx):
            raise _failure(b"".join(words.more()).decode(errors="replace"))
        if time.monotonic() > deadline:
            raise Unavailable(
                f"the daemon does not answer within {START_DEADLINE:.0f} s",
                hint="see 'appcat daemon logs'",
                code="daemon-failed",
            )
        time.sleep(POLL)


def answers(path: Path) -> bool:
    """Whether the daemon behind the unix socket ``path`` says that it is well."""
    try:
        with socket.socket(socket.AF_UNIX) as door:
            door.settimeout(PROBE_TIMEOUT)
            door.connect(str(path))
            door.sendall(PROBE)
            return door.recv(64).startswith(b"HTTP/1.1 200 ")
    except OSError:
        return False


def failure_line(error: AppcatError) -> str:
    """What a daemon that cannot start writes to its log, for whoever started it."""
    keys = ("code", "message", "hint", "details", "exit_code")
    return FAILURE + json.dumps({key: getattr(error, key) for key in keys})


def _failure(words: str) -> AppcatError:
    """The error that a daemon's last words tell."""
    for line in reversed(words.splitlines()):
        if line.startswith(FAILURE):
            told = json.loads(line.removeprefix(FAILURE))
            error = AppcatError(told["message"], hint=told["hint"], details=told["details"], code=told["code"])
            error.exit_code = told["exit_code"]
            return error
    return Unavailable(
        "the daemon ended before it answered", hint="see 'appcat daemon logs'", details=words, code="daemon-failed"
    )


def _other_doors(running: State) -> Conflict:
    return Conflict(
        f"a daemon runs already (process {running.pid}) with other doors: {', '.join(running.addresses)}",
        hint="give the same options to 'appcat daemon restart'",
        code="daemon-running",
    )


def stop(ctx: Context) -> bool:
    """End it; False when there was none. Running vms stay, and get a keeper. Raises WrongState when it does not end."""
    state = look(ctx)
    if state is not None:
        ctx.progress("stopping the daemon", 0, 0)
        keeping.end(ctx, state.pid, DAEMON, patience=STOP_DEADLINE)
        if (still := look(ctx)) is not None and still.pid == state.pid:
            raise WrongState(f"the daemon (process {state.pid}) does not end", hint="see 'appcat daemon logs'")
    hand_over(ctx)
    return state is not None


def hand_over(ctx: Context) -> None:
    """Where vms run and nobody watches over them any more, start a keeper."""
    if any(is_alive(ctx, name) for name in ctx.store.names()):
        keeping.ensure(ctx)


def restart(ctx: Context, doors: Doors) -> State:
    """Stop it and start it, with the doors it had unless others are asked for; started where there was none."""
    doors.checked()
    running = look(ctx)
    if running is not None and running.service and doors in (Doors(), running.doors):
        host_service.restart(DAEMON)
        with Log(ctx.layout.daemon_log) as words:
            return _await_answer(ctx, None, words)
    stop(ctx)
    return start(ctx, doors if doors != Doors() or running is None else running.doors)


def install(ctx: Context, doors: Doors) -> Path:
    """Have the daemon started after a host reboot, and now in place of one that runs; returns the service's file."""
    doors.checked()
    path = host_service.install(ctx, DAEMON, *doors.options())
    state = look(ctx)
    if state is not None and not state.service:  # the service waits for its end
        stop(ctx)
    return path


def uninstall() -> bool:
    """Undo ``install``; False when it was not installed. Running vms are left alone."""
    return host_service.uninstall(DAEMON)


def read_log(ctx: Context, *, tail: int | None = None, follow: bool = False) -> Iterator[bytes]:
    """The daemon's log in pieces: its last ``tail`` lines, or all; ``follow`` goes on for as long as a daemon runs."""
    with Log(ctx.layout.daemon_log) as words:
        pieces = words.begin()
        yield from pieces if tail is None else last_lines(pieces, tail)
        while follow:
            follow = is_running(ctx)  # before the look, so that last words are not missed
            yield from words.more()
            time.sleep(POLL)


def connect(ctx: Context) -> socket.socket:
    """A connection to the default door, the daemon started when there is none; raises what ``start`` raises."""
    for _ in range(2):
        door = socket.socket(socket.AF_UNIX)
        try:
            door.connect(str(ctx.layout.daemon_socket))
        except OSError:
            door.close()
            start(ctx, Doors())
        else:
            return door
    raise Unavailable("the daemon does not answer", hint="see 'appcat daemon logs'", code="daemon-failed")
