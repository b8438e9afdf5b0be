"""``stop`` asks the guest; ``kill`` ends the process."""

from __future__ import annotations

import contextlib
import functools
import logging
import time

from appcat.errors import AppcatError, Broken, Busy, Cancelled, DeadlineExceeded, QemuError
from appcat.model.run import Exit, ExitCause
from appcat.model.vm import RestartPolicy, Vm
from appcat.qemu import process
from appcat.qemu.agent import Agent
from appcat.qemu.monitor import DEFAULT_TIMEOUT, Monitor, MonitorError, MonitorGone
from appcat.services.changing import changing
from appcat.services.context import Context, now
from appcat.services.observe import ended_by, is_alive
from appcat.services.operations import existing, tracked
from appcat.services.patience import STOP_DEADLINE
from appcat.services.settle import adopt, settle
from appcat.store import locks

log = logging.getLogger(__name__)

AGENT_PATIENCE = 3.0
ASK_AGAIN = 2.0
KILL_DEADLINE = 10.0


@tracked("stop", existing, lambda changed: {"changed": changed})
def stop(ctx: Context, name: str, *, timeout: float = STOP_DEADLINE) -> bool:
    """Ask the guest to power off and wait for it; False when the vm was stopped already.

    The guest agent is asked first, the power button pressed when it is silent. Raises DeadlineExceeded when the vm
    still runs after ``timeout`` seconds, Busy, NotFound, Broken.
    """
    with changing(ctx, name, "stop") as vm:
        if adopt(ctx, name) is None:
            settle(ctx, name)
            _call_off_restart(ctx, vm)
            return False
        ctx.progress(f"stopping {name}", 0, 0)
        deadline = time.monotonic() + timeout
        _wake(ctx, vm, min(timeout, DEFAULT_TIMEOUT))
        _ask_until_ended(ctx, vm, deadline)
        if is_alive(ctx, name):
            raise DeadlineExceeded(
                f"the guest of {name} did not power off within {timeout:g} s",
                hint=f"give it more time with --timeout, or end it: appcat vm kill {name}",
            )
        settle(ctx, name, Exit(ExitCause.REQUESTED, "stopped by its owner", now()))
        return True


def _call_off_restart(ctx: Context, vm: Vm) -> None:
    """A vm that ended by itself may be waiting for its restart by policy; its owner does not want it."""
    last = ctx.store.load_exit(vm.name)
    if vm.restart is not RestartPolicy.NO and last and last.cause is not ExitCause.REQUESTED:
        ctx.store.record_exit(
            vm.name, Exit(ExitCause.REQUESTED, f"stopped by its owner; before that: {last.reason}", now())
        )


def kill(ctx: Context, name: str) -> bool:
    """End the vm's QEMU at once; False when it was stopped already.

    Works on a vm that is hung, broken, or busy with another command, which then fails. Raises NotFound, QemuError.
    """
    paths = ctx.store.find(name)
    try:
        with locks.hold(paths.op_lock, "kill", wait=0.2):
            return kill_and_settle(ctx, name)
    except Busy:
        _end_process(ctx, name)
        with locks.hold(paths.op_lock, "kill"):
            kill_and_settle(ctx, name)
        return True


def kill_and_settle(ctx: Context, name: str) -> bool:
    """End the vm's QEMU and close its record; the caller holds ``op.lock``. False when none lived."""
    killed = _end_process(ctx, name)
    settle(ctx, name, Exit(ExitCause.REQUESTED, "killed by its owner", now()) if killed else None)
    if not killed:
        with contextlib.suppress(Broken):
            _call_off_restart(ctx, ctx.store.load(name))
    return killed


def _end_process(ctx: Context, name: str) -> bool:
    """Kill whatever QEMU holds this vm's ``run.lock``; False when none does."""
    if not is_alive(ctx, name):
        return False
    lock = ctx.layout.vm(name).run_lock
    deadline = time.monotonic() + KILL_DEADLINE
    while is_alive(ctx, name):
        run = adopt(ctx, name)
        if run is not None and run.pid is not None:
            process.kill(run.pid, functools.partial(process.runs_vm, uuid=run.uuid))
        elif (holder := process.find_holder(lock)) is not None:
            process.kill(holder, functools.partial(process.holds, lock=lock))
        if not ended_by(ctx, name, time.monotonic() + 1.0) and time.monotonic() > deadline:
            raise QemuError(f"the QEMU of {name} does not end", hint=f"see who has it open: fuser {lock}")
    return True


def _wake(ctx: Context, vm: Vm, patience: float) -> None:
    """A paused guest cannot hear; it goes on for the time it takes to power off. Raises MonitorSilent."""
    with contextlib.suppress(MonitorGone), Monitor(ctx.layout.runtime(vm.uuid).monitor, patience) as monitor:
        if monitor.execute("query-status")["status"] == "paused":
            monitor.execute("cont")


def _ask_until_ended(ctx: Context, vm: Vm, deadline: float) -> None:
    """Ask again and again: a guest that is still booting misses both the agent's request and the button."""
    while time.monotonic() < deadline:
        _ask_guest(ctx, vm, deadline)
        if ended_by(ctx, vm.name, min(deadline, time.monotonic() + ASK_AGAIN), ctx.check):
            return


def _ask_guest(ctx: Context, vm: Vm, deadline: float) -> None:
    patience = max(min(AGENT_PATIENCE, deadline - time.monotonic()), 0.1)
    runtime = ctx.layout.runtime(vm.uuid)
    try:
        lock = ctx.layout.vm(vm.name).agent_lock
        with (
            locks.hold(lock, "stop", wait=patience, check=ctx.check),
            Agent(runtime.agent, patience, ctx.check) as agent,
        ):
            agent.shutdown()
            return
    except Cancelled:
        raise
    except AppcatError as error:
        log.info("the agent of %s does not take the request (%s): pressing the power button", vm.name, error)
    try:
        with Monitor(runtime.monitor) as monitor:
            monitor.execute("system_powerdown")
    except MonitorError as error:
        if not ended_by(ctx, vm.name, time.monotonic() + 2.0):  # it closes its sockets a moment before its lock
            raise
        log.info("QEMU of %s ended by itself: %s", vm.name, error)
