"""Bringing the files in line with what is: after a crash, a kill, a reboot. Callers hold the vm's ``op.lock``."""

from __future__ import annotations

import dataclasses
import logging

from appcat.errors import AppcatError, InsufficientSpace
from appcat.model.event import EventKind
from appcat.model.run import Exit, ExitCause, Run
from appcat.qemu import process
from appcat.services import cables, events
from appcat.services.bases import sweep
from appcat.services.context import Context
from appcat.services.observe import explain_end, is_alive
from appcat.store.files import remove_tree

log = logging.getLogger(__name__)


def settle(ctx: Context, name: str, how: Exit | None = None) -> None:
    """Close the record of a QEMU that is gone, tell of it, and sweep its sockets; does nothing while it lives.

    ``how`` is the reason where the caller knows it; otherwise what the files tell.
    """
    if is_alive(ctx, name):
        return
    run = ctx.store.load_run(name)
    if run is not None:
        how = how or explain_end(ctx, name, run)
        try:
            ctx.store.record_exit(name, how)
        except InsufficientSpace as error:
            log.warning("why %s ended cannot be noted: %s", name, error)
            ctx.store.forget_run(name)
        if how.cause is not ExitCause.NOT_STARTED:  # of a start, only its success is told
            events.record(ctx, EventKind.VM_STOPPED, name, uuid=run.uuid, cause=str(how.cause), reason=how.reason)
        remove_tree(ctx.layout.runtime(run.uuid).root)
        if run.backend:
            cables.forget(ctx, run.uuid)
        if run.base:
            sweep(ctx)


def adopt(ctx: Context, name: str) -> Run | None:
    """The record of the living QEMU with its process id, found again when the record lost it; None when stopped.

    A command that was killed between spawning QEMU and noting its process id leaves such a record.
    """
    if not is_alive(ctx, name):
        return None
    run = ctx.store.load_run(name)
    if run is None or (run.pid is not None and process.runs_vm(run.pid, run.uuid)):
        return run
    pid = process.find_holder(ctx.layout.vm(name).run_lock)
    if pid is None:
        return run
    log.info("adopting QEMU %d of %s", pid, name)
    run = dataclasses.replace(run, pid=pid, pid_started=process.started_at(pid))
    try:
        ctx.store.save_run(name, run)
    except AppcatError as error:
        log.warning("cannot note the process of %s: %s", name, error)
    return run
