"""The daemon as a process: takes its lock and the keeper's place, opens its doors, and ends in order."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import resource
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI

from appcat import __version__
from appcat.app import App
from appcat.daemon import tls
from appcat.daemon.audit import Audit
from appcat.daemon.door import LOCAL_NAMES, Door, tcp_door, unix_door
from appcat.daemon.gate import Gate
from appcat.daemon.guard import Guard
from appcat.daemon.listening import Listening
from appcat.daemon.server import begin_to_end, create_app
from appcat.errors import AppcatError, Busy, Unavailable, from_os_error
from appcat.model import codec
from appcat.model.listen import Listen
from appcat.services import daemon, keeping, tokens
from appcat.services.context import Context, now
from appcat.services.daemon import BACKGROUND, Doors, State
from appcat.services.host_service import KEEPER, SERVICE
from appcat.services.keep import Keeper, Stop, autostart, bound_log
from appcat.store import locks
from appcat.store.files import make_private_directory, unlink, write_atomic

log = logging.getLogger("appcat.daemon")

FORMAT = "%(asctime)s %(levelname)s %(message)s"
MOST_FILES = 8192
TURN_POLL = 0.5
TAKEOVER_DEADLINE = 10.0
KEEPER_PAUSE, KEEPER_PATIENCE = 5.0, 3.0


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    doors: Doors
    service: bool
    background: bool


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a daemon for the home that the environment names, until SIGTERM; returns the exit status."""
    os.umask(0o077)
    request = parse(sys.argv[1:] if arguments is None else arguments)
    status = 0
    try:
        ctx = App.load().context
        make_private_directory(ctx.layout.home)
        _speak(ctx, request)
        with my_turn(ctx, wait=request.service):
            serve(ctx, request)
        if ctx.layout.home.is_dir():
            daemon.hand_over(ctx)
    except AppcatError as error:
        _complain(error, request)
        status = error.exit_code
    except KeyboardInterrupt:
        status = 130
    except OSError as error:
        told = from_os_error(error, "starting the daemon")
        _complain(told, request)
        status = told.exit_code
    logging.shutdown()
    sys.stderr.flush()
    # Threads that still work would keep the interpreter; killing them is what kill -9 does, and that is survived.
    os._exit(status)


def parse(arguments: Sequence[str]) -> Request:
    """The options of ``python -m appcat.daemon``: internal, people use ``appcat daemon``."""
    parser = argparse.ArgumentParser("python -m appcat.daemon", allow_abbrev=False)
    parser.add_argument("--listen", action="append", default=[])
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--tls-cert")
    parser.add_argument("--tls-key")
    parser.add_argument(SERVICE, action="store_true")
    parser.add_argument(BACKGROUND, action="store_true")
    given = parser.parse_args(arguments)
    doors = Doors(tuple(given.listen), given.tls, given.tls_cert, given.tls_key)
    return Request(doors, given.service, given.background)


def _speak(ctx: Context, request: Request) -> None:
    """Log to the daemon's file, in the foreground also to standard error; what the keeper says to its own file too."""
    level = logging.DEBUG if os.environ.get("APPCAT_LOG") == "debug" else logging.INFO
    handlers: list[logging.Handler] = [logging.FileHandler(ctx.layout.daemon_log)]
    if not request.background:
        handlers.append(logging.StreamHandler(sys.stderr))
    logging.basicConfig(level=level, format=FORMAT, handlers=handlers)
    for noisy in ("uvicorn", "asyncio", "websockets"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)  # a guest that hangs up is told to who asked, not to us
    keepers = logging.FileHandler(ctx.layout.keeper_log)
    keepers.setFormatter(logging.Formatter(FORMAT))
    logging.getLogger("appcat.services.keep").addHandler(keepers)


def _complain(error: AppcatError, request: Request) -> None:
    """Say why it could not start: to whoever waits for it, or to whoever typed it."""
    if request.background:
        print(daemon.failure_line(error), file=sys.stderr)
        return
    print(f"Error: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"Hint:  {error.hint}", file=sys.stderr)


@contextlib.contextmanager
def my_turn(ctx: Context, *, wait: bool) -> Iterator[None]:
    """Hold the daemon's lock; where another does, ``wait`` for its end or raise Conflict that says which."""
    while True:
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(locks.hold(ctx.layout.daemon_lock, "serve", wait=1.0))
            except Busy:
                if not wait:
                    raise daemon.already_running(ctx) from None
            else:
                yield
                return
        time.sleep(TURN_POLL)


def serve(ctx: Context, request: Request) -> None:
    """Be the daemon, with its lock held: open the doors, keep, answer, until told to end."""
    _allow_many_files()
    lock = ctx.layout.daemon_lock.stat()
    guard, audit = Guard(ctx), Audit(ctx.layout.audit_log)
    app = create_app(ctx)
    gate = Gate(app, guard, audit)
    listens = request.doors.checked()
    identity = identity_of(ctx, request.doors, listens)
    if listens:
        tokens.ensure_default(ctx)
    with contextlib.ExitStack() as stack:
        doors = [stack.enter_context(unix_door(ctx.layout.daemon_socket, gate))]
        names = {socket.gethostname().lower(), *(identity.names if identity else ())}
        for listen in listens:
            context = identity.context if identity else None
            doors.append(stack.enter_context(tcp_door(listen, gate, context, frozenset(names))))
        keeper = stack.enter_context(Keeping.begun(ctx, autostarts=request.service))
        ending = Ending(app)
        state = state_of(ctx, request, doors, identity)
        stack.callback(_forget, ctx)
        listening = Listening(
            doors,
            grace=daemon.STOP_GRACE,
            still_wanted=lambda: keeper.is_alive() and _is_mine(ctx.layout.daemon_lock, lock) and _tidy(ctx),
            is_welcome=guard.is_welcome,
            started=lambda: _announce(ctx, state),
            closing=ending.begin,
            lifespan=app,
        )
        # Not asyncio.run(): that waits for every handler's thread, however long it takes.
        asyncio.new_event_loop().run_until_complete(listening.serve())
        ending.finish()


def identity_of(ctx: Context, doors: Doors, listens: list[Listen]) -> tls.Identity | None:
    """The certificate to show, if any."""
    if doors.tls_certificate and doors.tls_key:
        return tls.load(Path(doors.tls_certificate), Path(doors.tls_key))
    if not doors.encrypted:
        return None
    names = {socket.gethostname().lower(), *LOCAL_NAMES, *(listen.host for listen in listens if not listen.is_wildcard)}
    return tls.own(ctx.layout.tls_certificate, ctx.layout.tls_key, names)


def state_of(ctx: Context, request: Request, doors: Sequence[Door], identity: tls.Identity | None) -> State:
    """What this daemon says of itself."""
    file = ctx.layout.default_token
    return State(
        pid=os.getpid(),
        version=__version__,
        since=now(),
        addresses=tuple(door.address for door in doors),
        doors=request.doors,
        service=request.service,
        certificate=str(identity.file) if identity else None,
        fingerprint=identity.fingerprint if identity else None,
        token_file=str(file) if len(doors) > 1 and file.exists() else None,
    )


def _announce(ctx: Context, state: State) -> None:
    write_atomic(ctx.layout.daemon_state, codec.dumps(state, daemon.KIND))
    log.info("appcat %s, process %d, at %s", state.version, state.pid, ", ".join(state.addresses))
    if state.fingerprint:
        log.info("certificate SHA-256 %s", state.fingerprint)


def _forget(ctx: Context) -> None:
    with contextlib.suppress(OSError):
        unlink(ctx.layout.daemon_state)


def _is_mine(path: Path, mine: os.stat_result) -> bool:
    """Whether the lock is still the file that we hold: not when the home was removed, even if there is another."""
    try:
        return os.path.samestat(path.stat(), mine)
    except OSError:
        return False


def _tidy(ctx: Context) -> bool:
    with contextlib.suppress(OSError):
        bound_log(ctx.layout.daemon_log)
    return True


def _allow_many_files() -> None:
    """Each connection is an open file; the usual limit is just the number of those that are let in."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(MOST_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@dataclass
class Ending:
    """From SIGTERM on: streams end, operations have as long as requests have, and no longer."""

    app: FastAPI
    deadline: float = 0.0

    def begin(self) -> None:
        """Have streams end, and operations that have not begun not begin."""
        log.info("ending")
        self.deadline = time.monotonic() + daemon.STOP_GRACE
        begin_to_end(self.app)
        self.app.state.operation_threads.shutdown(wait=False, cancel_futures=True)

    def finish(self) -> None:
        """Wait for operations under way."""
        waiting = threading.Thread(target=self.app.state.operation_threads.shutdown, daemon=True)
        waiting.start()
        waiting.join(max(self.deadline - time.monotonic(), 0.0))


# --- the keeper's part -----------------------------------------------------------------------------------------------


class Keeping(threading.Thread):
    """The keeper in a thread of the daemon. It ends when told to, or when the home is gone."""

    def __init__(self, ctx: Context, autostarts: bool) -> None:
        super().__init__(name="keeper", daemon=True)
        self.ctx = ctx
        self.autostarts = autostarts
        self.stop = Stop()

    @classmethod
    @contextlib.contextmanager
    def begun(cls, ctx: Context, *, autostarts: bool) -> Iterator[Keeping]:
        """It runs inside the context, and holds ``keeper.lock`` there; one that was started on demand gives way."""
        with taken_over(ctx):
            keeper = cls(ctx, autostarts)
            keeper.start()
            try:
                yield keeper
            finally:
                keeper.stop.set()
                keeper.join(KEEPER_PATIENCE)

    def run(self) -> None:
        """Keep; a fault of ours is logged and does not leave the vms without a keeper."""
        while not self.stop.is_set and self.ctx.layout.home.is_dir():
            try:
                if self.autostarts:
                    autostart(self.ctx)
                Keeper(self.ctx, serve=True, stop=self.stop).run()
            except Exception:  # whatever it is: vms without a keeper would be worse
                log.exception("the keeper had a fault, and begins again")
                time.sleep(KEEPER_PAUSE)


@contextlib.contextmanager
def taken_over(ctx: Context) -> Iterator[None]:
    """Hold ``keeper.lock``: whoever keeps now is ended, which does no harm at any moment."""
    deadline = time.monotonic() + TAKEOVER_DEADLINE
    while True:
        holder = locks.holder(ctx.layout.keeper_lock)
        if holder is not None:
            keeping.end(ctx, holder.pid, KEEPER)
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(locks.hold(ctx.layout.keeper_lock, "keep", wait=0.2))
            except Busy:
                pass
            else:
                yield
                return
        if time.monotonic() > deadline:
            who = f" (process {holder.pid})" if holder else ""
            raise Unavailable(f"the keeper{who} does not give way", hint="end it, then try again", code="daemon-failed")
