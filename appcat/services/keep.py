"""The keeper: the one process per home that watches, since everybody else comes and goes.

It bounds the console logs, learns why a QEMU ended, restarts vms by policy, corrects guest clocks after the host slept
and tells guests who is on their networks. It owns nothing: all it knows is in the files, any moment is a good one to
kill it, and the next one carries on.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

from appcat.errors import AppcatError, Busy, NotFound
from appcat.model import codec
from appcat.model.event import EventKind
from appcat.model.run import Exit, ExitCause, Run
from appcat.model.vm import RestartPolicy
from appcat.qemu import process
from appcat.qemu.monitor import Monitor, MonitorError
from appcat.services import guests
from appcat.services.bases import is_making, sweep
from appcat.services.changing import is_unfinished, put_right
from appcat.services.context import Context, now
from appcat.services.events import record
from appcat.services.herald import Herald
from appcat.services.observe import explain_end, is_alive, qemu_last_words
from appcat.services.operations import prune
from appcat.services.settle import adopt, settle
from appcat.services.start import start
from appcat.store import locks
from appcat.store.boot import boot_id
from appcat.store.files import make_private_directory, write_atomic

log = logging.getLogger(__name__)

TICK = 2.0
IDLE_EXIT = 30.0
CONSOLE_LIMIT = 1 << 20
CLOCK_JUMP = 1.0
PRUNE_EVERY = 3600.0
FIRST_DELAY, LONGEST_DELAY, STEADY_AFTER = 1.0, 60.0, 60.0
NETWORKS = "private networks"  # whose troubles are nobody's: no vm can be called so

STATE = codec.Kind("keeper.json", 1)


@dataclass(frozen=True)
class Served:
    """The host boot for which the autostart vms were brought back."""

    boot_id: str


@dataclass
class Watch:
    """One living QEMU: a handle that tells its end, its event stream, and what that said last."""

    run: Run
    handle: process.Handle
    events: Monitor | None
    shutdown_reason: str = ""

    def close(self) -> None:
        """Stop watching."""
        self.handle.close()
        if self.events:
            self.events.close()


@dataclass
class Backoff:
    """How often a vm was restarted in a row, and when it may be again (monotonic seconds)."""

    count: int = 0
    started: float = 0.0
    due: float = 0.0


class Stop:
    """Asks a keeper in another thread to end, and wakes it for that."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        self.is_set = False

    def set(self) -> None:
        """End, soon."""
        self.is_set = True
        os.write(self._write, b".")

    def fileno(self) -> int:
        """Readable once it is set."""
        return self._read

    def close(self) -> None:
        """Let go of the pipe; the keeper must have ended."""
        os.close(self._read)
        os.close(self._write)


@dataclass
class Keeper:
    """The loop. ``serve`` keeps it alive without vms; otherwise it ends after ``IDLE_EXIT`` seconds without any.

    ``stop`` ends it between two rounds.
    """

    ctx: Context
    serve: bool = False
    stop: Stop | None = None
    watches: dict[str, Watch] = field(default_factory=dict)
    backoffs: dict[str, Backoff] = field(default_factory=dict)
    troubles: dict[str, str] = field(default_factory=dict)
    prune_due: float = 0.0
    herald: Herald = field(init=False)
    clock_offset: float = field(default_factory=lambda: time.time() - time.monotonic())

    def __post_init__(self) -> None:
        self.herald = Herald(self.ctx)

    def run(self) -> None:
        """Keep until there is nothing to keep, the home is gone, or it is told to stop."""
        idle_since = time.monotonic()
        while self.ctx.layout.home.is_dir() and not (self.stop and self.stop.is_set):
            self.tick()
            if self.watches or self.backoffs or self.serve or is_making(self.ctx):
                idle_since = time.monotonic()
            elif time.monotonic() - idle_since > IDLE_EXIT:
                return
            self._sleep()

    def tick(self) -> None:
        """One round over all vms; a fault with one of them never keeps the others from being looked after."""
        names = self.ctx.store.names()
        for name in set(self.watches) - set(names):
            self.watches.pop(name).close()
        self.backoffs = {name: backoff for name, backoff in self.backoffs.items() if name in names}
        for name in names:
            try:
                self._keep(name)
                self.troubles.pop(name, None)
            except (AppcatError, OSError) as error:
                self._note_trouble(name, str(error))
        self._mind_networks()
        bound_log(self.ctx.layout.keeper_log)
        sweep(self.ctx)
        self._prune()
        self._correct_clocks()

    def _mind_networks(self) -> None:
        try:
            self.herald.tick(self.watches)
            self.troubles.pop(NETWORKS, None)
        except (AppcatError, OSError) as error:
            self._note_trouble(NETWORKS, str(error))

    def _prune(self) -> None:
        """Old operations, now and then: commands do it too, but there may be none for days."""
        if time.monotonic() >= self.prune_due:
            self.prune_due = time.monotonic() + PRUNE_EVERY
            prune(self.ctx)

    def _note_trouble(self, name: str, text: str) -> None:
        """Once, not at every tick."""
        if self.troubles.get(name) != text:
            self.troubles[name] = text
            log.warning("%s: %s", name, text)

    def _keep(self, name: str) -> None:
        if is_alive(self.ctx, name):
            self._put_right(name)
            self._watch(name)
            bound_log(self.ctx.layout.vm(name).console_log)
            return
        watch = self.watches.pop(name, None)
        if self.ctx.layout.vm(name).run.exists():
            self._close_record(name, watch)
        if watch:
            watch.close()
        self._restart_if_due(name)

    def _put_right(self, name: str) -> None:
        """End what a command was at when it was killed."""
        if is_unfinished(self.ctx, name):
            with contextlib.suppress(Busy), locks.hold(self.ctx.layout.vm(name).op_lock, "put right", wait=0):
                put_right(self.ctx, name)

    def _watch(self, name: str) -> None:
        watch = self.watches.get(name)
        if watch and watch.handle.wait(0):  # ended, and started again since the last look
            self.watches.pop(name).close()
            watch = None
        if watch is None:
            run = self._identify(name)
            if run is None or run.pid is None:
                return
            with contextlib.suppress(ProcessLookupError):
                watch = self.watches[name] = Watch(run, process.Handle(run.pid), None)
        if watch and watch.events is None:
            with contextlib.suppress(MonitorError):
                watch.events = Monitor(self.ctx.layout.runtime(watch.run.uuid).events, timeout=1.0)

    def _identify(self, name: str) -> Run | None:
        """The run's record; completed when the command that should have done so is gone."""
        run = self.ctx.store.load_run(name)
        if run is None or run.pid is not None:
            return run
        with contextlib.suppress(Busy), locks.hold(self.ctx.layout.vm(name).op_lock, "adopt", wait=0):
            return adopt(self.ctx, name)
        return None

    def _close_record(self, name: str, watch: Watch | None) -> None:
        """Say why QEMU ended, unless the command that ended it is about to say so itself."""
        if watch:
            self._drain(watch)
        with contextlib.suppress(Busy, NotFound), locks.hold(self.ctx.layout.vm(name).op_lock, "settle", wait=0):
            run = self.ctx.store.load_run(name)
            if run is not None and not is_alive(self.ctx, name):
                how = diagnose(self.ctx, name, run, watch)
                log.info("%s ended: %s", name, how.reason)
                settle(self.ctx, name, how)

    def _restart_if_due(self, name: str) -> None:
        last = self.ctx.store.load_exit(name)
        vm = self.ctx.store.load(name)
        if self.ctx.layout.vm(name).run.exists() or last is None or not wants_restart(vm.restart, last):
            self.backoffs.pop(name, None)
            return
        backoff = self.backoffs.setdefault(name, Backoff())
        if backoff.due == 0.0:
            steady = time.monotonic() - backoff.started > STEADY_AFTER
            backoff.count = 0 if steady else backoff.count + 1
            backoff.due = time.monotonic() + restart_delay(backoff.count)
        if time.monotonic() < backoff.due:
            return
        log.info("restarting %s (%s)", name, vm.restart)
        backoff.due, backoff.started = 0.0, time.monotonic()
        try:
            start(self.ctx, name, ready_within=None)
        except AppcatError:
            self._keep_trying(name, last)
            raise
        record(self.ctx, EventKind.VM_RESTARTED, vm, by="policy", policy=str(vm.restart))

    def _keep_trying(self, name: str, last: Exit) -> None:
        """A start that failed is its owner's business when it was theirs; a restart is tried again."""
        with locks.hold(self.ctx.layout.vm(name).op_lock, "settle"):
            if not is_alive(self.ctx, name):
                self.ctx.store.record_exit(name, last)

    def _drain(self, watch: Watch) -> None:
        """Read what the event stream has to say."""
        try:
            while watch.events:
                event = watch.events.next_event(0.01)
                if event.get("event") == "SHUTDOWN":
                    watch.shutdown_reason = str(event.get("data", {}).get("reason", ""))
                if event.get("event") == "RESET":
                    self.herald.was_reset(watch.run.uuid)
        except MonitorError as error:
            if error.code == "monitor-gone" and watch.events:
                watch.events.close()
                watch.events = None

    def _sleep(self) -> None:
        """Until something happens to a QEMU or the keeper is told to stop, the next tick at the latest."""
        with selectors.DefaultSelector() as selector:
            for watch in self.watches.values():
                if watch.handle.descriptor is not None:
                    selector.register(watch.handle.descriptor, selectors.EVENT_READ, watch)
                if watch.events:
                    selector.register(watch.events.fileno(), selectors.EVENT_READ, watch)
            if self.stop:
                selector.register(self.stop, selectors.EVENT_READ)
            ready = [key.data for key, _ in selector.select(TICK) if key.data is not None]
        for watch in {id(watch): watch for watch in ready}.values():
            self._drain(watch)

    def _correct_clocks(self) -> None:
        """The monotonic clock stands still while the host sleeps; guests notice nothing and are late afterwards."""
        offset = time.time() - time.monotonic()
        if abs(offset - self.clock_offset) < CLOCK_JUMP:
            return
        log.info("the host's clock jumped by %.1f s: correcting the guests", offset - self.clock_offset)
        self.clock_offset = offset
        for name in list(self.watches):
            try:
                guests.set_clock(self.ctx, self.ctx.store.load(name))
            except AppcatError as error:
                log.warning("the clock of %s could not be corrected: %s", name, error)


def keep(ctx: Context, *, service: bool = False) -> bool:
    """Be the keeper of this home; False when there is one already.

    ``service`` is how the host's service manager runs it: brings the autostart vms back once per host boot, waits for
    a keeper that was started on demand to end, and never ends by itself.
    """
    ctx = ctx.but(origin="keeper")
    make_private_directory(ctx.layout.home)
    if service:
        autostart(ctx)
    try:
        with locks.hold(ctx.layout.keeper_lock, "keep", wait=float("inf") if service else 1.0):
            Keeper(ctx, serve=service).run()
    except Busy:
        return False
    return True


def autostart(ctx: Context) -> list[str]:
    """Start the ``--autostart`` vms if this host boot has not seen it done; returns the names of those started."""
    with locks.hold(ctx.layout.autostart_lock, "autostart"):
        if _served(ctx) == boot_id():
            return []
        started = [name for name in ctx.store.names() if _autostart_one(ctx, name)]
        write_atomic(ctx.layout.keeper_state, codec.dumps(Served(boot_id()), STATE))
    return started


def _autostart_one(ctx: Context, name: str) -> bool:
    try:
        if not ctx.store.load(name).autostart or is_alive(ctx, name):
            return False
        start(ctx, name, ready_within=None)
    except AppcatError as error:
        log.warning("%s could not be brought back: %s", name, error)
        return False
    return True


def _served(ctx: Context) -> str:
    try:
        return codec.loads(Served, ctx.layout.keeper_state.read_text(encoding="utf-8"), STATE).boot_id
    except (OSError, UnicodeDecodeError, AppcatError):
        return ""


def wants_restart(policy: RestartPolicy, last: Exit) -> bool:
    """Whether ``policy`` calls for another start after such an end."""
    if policy is RestartPolicy.ALWAYS:
        return last.is_failure or last.cause is ExitCause.GUEST
    return policy is RestartPolicy.ON_FAILURE and last.is_failure


def restart_delay(count: int) -> float:
    """Seconds to wait before restart number ``count`` (from 0) in a row: doubling, up to a minute."""
    return min(FIRST_DELAY * 2.0 ** min(count, 10), LONGEST_DELAY)


def diagnose(ctx: Context, name: str, run: Run, watch: Watch | None) -> Exit:
    """Why a QEMU ended: its last event, then its exit status, then what the files tell."""
    if watch is None or watch.run.pid != run.pid:
        return explain_end(ctx, name, run)
    if watch.shutdown_reason == "guest-shutdown":
        return Exit(ExitCause.GUEST, "the guest powered itself off", now())
    if watch.shutdown_reason.startswith("host-"):
        words = qemu_last_words(ctx, name)
        return Exit(ExitCause.KILLED, f"QEMU was ended from outside{f': {words}' if words else ''}", now())
    status = watch.handle.wait_status()
    if status is None:
        return explain_end(ctx, name, run)
    words = qemu_last_words(ctx, name)
    cause = ExitCause.KILLED if process.is_kill(status) else ExitCause.FAILED
    return Exit(cause, process.describe_status(status) + (f": {words}" if words else ""), now())


def bound_log(path: Path, limit: int = CONSOLE_LIMIT) -> None:
    """Keep a log that QEMU appends to below ``limit`` bytes: the full one becomes ``.1``, a new one begins.

    QEMU holds the file open in append mode, so it is copied and cut rather than renamed.
    """
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > limit:
            try:
                shutil.copyfile(path, path.with_name(path.name + ".1"))
            finally:  # on a full disk the old part is lost, but the log stays bounded
                with path.open("r+b") as file:
                    file.truncate(0)
