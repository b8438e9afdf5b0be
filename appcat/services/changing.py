"""Changing a vm: one command at a time, and what an earlier one left unfinished is put right first."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterator

from appcat.errors import AppcatError
from appcat.model.run import Exit, ExitCause, Run
from appcat.model.vm import Vm
from appcat.qemu import argv, migration, process
from appcat.qemu.monitor import Monitor
from appcat.services.context import Context, now
from appcat.services.expecting import expectation
from appcat.services.observe import is_alive
from appcat.services.settle import adopt, settle
from appcat.store import locks
from appcat.store.files import unlink

log = logging.getLogger(__name__)

CANCEL_PATIENCE = 60.0


@contextlib.contextmanager
def changing(ctx: Context, name: str, verb: str, *, wait: float = locks.DEFAULT_WAIT) -> Iterator[Vm]:
    """Hold the vm's ``op.lock`` to do ``verb``, and give the vm as it is then; raises NotFound, Busy, Broken, Stale."""
    ctx.store.find(name)
    with locks.hold(ctx.layout.vm(name).op_lock, verb, wait=wait, check=ctx.check):
        expectation().check(ctx, name)
        put_right(ctx, name)
        yield ctx.store.load(name)
        expectation().note(ctx, name)


def is_unfinished(ctx: Context, name: str) -> bool:
    """Whether a command that froze the vm, or made it a clone, may have been killed; cheap."""
    if ctx.layout.vm(name).freezing.exists():
        return True
    run = ctx.store.load_run(name)
    return run is not None and not run.begun


def put_right(ctx: Context, name: str) -> None:
    """End what a killed command left half done; the caller holds ``op.lock``, so whoever was at it is gone.

    A frozen source goes on. A clone without an identity of its own must never run: it is stopped.
    """
    if not is_unfinished(ctx, name):
        return
    run = adopt(ctx, name)
    if run is None:
        unlink(ctx.layout.vm(name).freezing)
    elif not run.begun:
        _abandon(ctx, name, run)
    else:
        with contextlib.suppress(AppcatError), Monitor(ctx.layout.runtime(run.uuid).monitor) as monitor:
            log.info("the freeze of %s was cut off: it goes on", name)
            resume(monitor, run)
            unlink(ctx.layout.vm(name).freezing)


def resume(monitor: Monitor, run: Run) -> None:
    """Let a source go on as it was before; a QEMU that is gone is fine."""
    with contextlib.suppress(AppcatError):
        migration.call_off(monitor, CANCEL_PATIENCE)
    with contextlib.suppress(AppcatError):
        if not monitor.execute("query-status")["running"]:
            migration.go_on(monitor)
    if run.base is None:
        with contextlib.suppress(AppcatError):  # it has one already
            monitor.execute("device_add", **argv.reclaim_device())


def _abandon(ctx: Context, name: str, run: Run) -> None:
    log.info("%s was not finished when its maker was killed", name)
    if run.pid is not None:
        process.kill(run.pid, functools.partial(process.runs_vm, uuid=run.uuid))
    if not is_alive(ctx, name):
        settle(ctx, name, Exit(ExitCause.NOT_STARTED, "the command that cloned it was killed", now()))
