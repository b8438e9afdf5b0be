"""Looking: what each vm is doing now, derived from files, locks and QEMU's own answer. Changes nothing."""

from __future__ import annotations

import time

from appcat.checks import Check, unchecked
from appcat.errors import AppcatError, Broken, NotFound
from appcat.model.run import Exit, ExitCause, Run
from appcat.model.status import Observation, Status
from appcat.model.vm import Vm
from appcat.qemu.monitor import Monitor, MonitorError
from appcat.qemu.process import output_of
from appcat.services.context import Context, now
from appcat.store import locks
from appcat.store.boot import boot_id

POLL = 0.02
STATUS_WAIT = 5.0
MONITOR_PATIENCE = 3.0
END_PATIENCE = 2.0


def list_vms(ctx: Context) -> list[Observation]:
    """Every vm of this home, broken ones included, by name."""
    found = (look_safely(ctx, name) for name in ctx.store.names())
    return [seen for seen in found if seen is not None]


def look_safely(ctx: Context, name: str) -> Observation | None:
    """As ``_look``; what the system refuses concerns this vm alone."""
    try:
        return _look(ctx, name)
    except OSError as error:
        return Observation(name, Status.BROKEN, f"{error.filename or name}: {error.strerror}")
    except AppcatError as error:
        return Observation(name, Status.BROKEN, error.message)


def show(ctx: Context, name: str) -> Observation:
    """One vm; raises NotFound or InvalidInput."""
    ctx.store.find(name)
    seen = look_safely(ctx, name)
    if seen is None:
        ctx.store.find(name)
        raise AppcatError(f"{name} changes too fast to be looked at", hint="try again")
    return seen


def is_alive(ctx: Context, name: str) -> bool:
    """Whether a QEMU of this vm lives: it holds ``run.lock`` until it dies."""
    return locks.is_held(ctx.layout.vm(name).run_lock)


def ended_by(ctx: Context, name: str, deadline: float, check: Check = unchecked) -> bool:
    """Whether the vm's QEMU is gone by ``deadline`` (monotonic seconds); waits until then at most."""
    while is_alive(ctx, name):
        if time.monotonic() >= deadline:
            return False
        check()
        time.sleep(POLL)
    return True


def _look(ctx: Context, name: str) -> Observation | None:
    """The vm as it is now, or None when it was deleted while we looked."""
    paths = ctx.layout.vm(name)
    try:
        vm = ctx.store.load(name)
    except Broken as error:
        if not paths.root.is_dir():
            return None
        alive = "; its QEMU still runs" if is_alive(ctx, name) else ""
        return Observation(name, Status.BROKEN, error.message + alive, run=ctx.store.load_run(name))
    except NotFound:
        return None
    run = ctx.store.load_run(name)
    who = locks.holder(paths.op_lock)
    if who is not None:
        return Observation(name, Status.BUSY, who.verb, vm, run)
    if not is_alive(ctx, name):
        return Observation(name, Status.STOPPED, vm=vm, last_exit=_last_exit(ctx, name, run))
    if run is not None and not run.begun:
        return Observation(name, Status.PAUSED, "its cloning was cut off", vm, run)
    status, detail = _ask_qemu(ctx, name, vm)
    last = _last_exit(ctx, name, ctx.store.load_run(name)) if status is Status.STOPPED else None
    return Observation(name, status, detail, vm, run, last)


def _ask_qemu(ctx: Context, name: str, vm: Vm) -> tuple[Status, str]:
    paths = ctx.layout.vm(name)
    try:
        with locks.hold(paths.status_lock, "look", wait=STATUS_WAIT):
            answer = _query(ctx, vm)
    except MonitorError as error:
        return _silence(ctx, name, error)
    except AppcatError as error:
        return Status.UNRESPONSIVE, error.message
    # "inmigrate", "prelaunch", "watchdog" ...: vCPUs halted for one reason or another.
    return (Status.RUNNING, "") if answer == "running" else (Status.PAUSED, "" if answer == "paused" else answer)


def _query(ctx: Context, vm: Vm) -> str:
    with Monitor(ctx.layout.runtime(vm.uuid).status, timeout=MONITOR_PATIENCE) as monitor:
        return str(monitor.execute("query-status")["status"])


def _silence(ctx: Context, name: str, error: MonitorError) -> tuple[Status, str]:
    """What a silent monitor means: QEMU ended meanwhile, a command works on it, or it hangs."""
    # A QEMU that ends closes its sockets a moment before its lock.
    if ended_by(ctx, name, time.monotonic() + END_PATIENCE):
        return Status.STOPPED, ""
    if who := locks.holder(ctx.layout.vm(name).op_lock):
        return Status.BUSY, who.verb
    return Status.UNRESPONSIVE, error.message


def _last_exit(ctx: Context, name: str, run: Run | None) -> Exit | None:
    return explain_end(ctx, name, run) if run else ctx.store.load_exit(name)


def explain_end(ctx: Context, name: str, run: Run) -> Exit:
    """What can be told of a QEMU that ended unseen, from the record it left."""
    if run.boot_id != boot_id():
        return Exit(ExitCause.HOST_RESTARTED, "the host restarted while the vm was running", now())
    last_words = qemu_last_words(ctx, name)
    if "terminating on signal" in last_words:
        return Exit(ExitCause.KILLED, f"QEMU was ended from outside: {last_words}", now())
    if last_words:
        return Exit(ExitCause.FAILED, f"QEMU ended: {last_words}", now())
    return Exit(ExitCause.UNKNOWN, "QEMU ended without a word: it was killed, or the guest powered off unseen", now())


def qemu_last_words(ctx: Context, name: str) -> str:
    """The last line QEMU wrote to its standard error, or nothing."""
    lines = qemu_output(ctx, name).splitlines()
    return lines[-1] if lines else ""


def qemu_output(ctx: Context, name: str) -> str:
    """The end of what QEMU wrote to its standard error, without harmless warnings."""
    return output_of(ctx.layout.vm(name).qemu_log)
