"""Starting the keeper on demand, finding it, and ending it when a daemon takes its place."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from appcat.errors import AppcatError, WrongState
from appcat.model.status import Observation, Status
from appcat.qemu import process
from appcat.services import host_service
from appcat.services.context import Context
from appcat.services.host_service import DAEMON, KEEPER, Service
from appcat.settings import Settings
from appcat.store import locks

log = logging.getLogger(__name__)

END_DEADLINE = 10.0
PATIENCE = 2.0  # seconds a helper has after SIGTERM before it is killed; no moment is a bad one for that


def is_running(ctx: Context) -> bool:
    """Whether a keeper watches over this home."""
    return locks.is_held(ctx.layout.keeper_lock)


def ensure(ctx: Context) -> None:
    """Start a keeper in the background unless there is one. A failure is logged: vms run without it."""
    try:
        if not is_running(ctx):
            spawn(ctx, KEEPER.command(), ctx.layout.keeper_log)
    except (OSError, AppcatError) as error:
        log.warning("the keeper could not be started: %s", error)


def ensure_keeper(ctx: Context, seen: Sequence[Observation]) -> None:
    """Start a keeper if one is missing where any of the vms just ``seen`` needs it: whoever comes next carries on."""
    if any(vm.status not in (Status.STOPPED, Status.BROKEN) for vm in seen):
        ensure(ctx)


def spawn(ctx: Context, argv: Sequence[str], log_path: Path) -> subprocess.Popen[bytes]:
    """Start a helper of this home that outlives us, its words going to ``log_path``."""
    with log_path.open("ab") as output:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd="/",
            env={**os.environ, "APPCAT_HOME": str(ctx.settings.home), "APPCAT_CACHE": str(ctx.settings.cache)},
        )


def install(ctx: Context) -> Path:
    """Have the keeper, and with it the ``--autostart`` vms, started after a host reboot (``host_service.install``)."""
    return host_service.install(ctx, KEEPER)


def uninstall() -> bool:
    """Undo ``install``; False when it was not installed. Running vms are left alone."""
    return host_service.uninstall(KEEPER)


# --- whose process is it ---------------------------------------------------------------------------------------------


def helpers(ctx: Context, *services: Service) -> list[int]:
    """Process ids of this home's keepers and daemons: those that are at it, and any that wait for their turn."""
    return sorted(found.pid for found in psutil.process_iter() if is_helper(ctx, found.pid, *services))


def is_helper(ctx: Context, pid: int, *services: Service) -> bool:
    """Whether ``pid`` is a living keeper or daemon of this home: has a lock of theirs open, or was started for it."""
    modules = {service.module for service in services or (KEEPER, DAEMON)}
    try:
        found = psutil.Process(pid)
        if found.status() == psutil.STATUS_ZOMBIE or not modules & set(found.cmdline()):
            return False
        taken = {ctx.layout.keeper_lock.resolve(), ctx.layout.daemon_lock.resolve()}
        return _serves(ctx, found.environ()) or any(Path(file.path) in taken for file in found.open_files())
    except (psutil.Error, OSError, ValueError):
        return False


def _serves(ctx: Context, environ: dict[str, str]) -> bool:
    try:
        return Settings.load(environ).home == ctx.layout.home if "APPCAT_HOME" in environ else False
    except AppcatError:
        return False


def end(ctx: Context, pid: int, *services: Service, patience: float = PATIENCE) -> None:
    """End the helper ``pid``; the pidfd is opened first and the question who it is asked afterwards."""
    with contextlib.suppress(ProcessLookupError), process.Handle(pid) as handle:
        if is_helper(ctx, pid, *services):
            handle.signal(signal.SIGTERM)
            if not handle.wait(patience):
                handle.signal(signal.SIGKILL)
                handle.wait(PATIENCE)


def end_all(ctx: Context, *services: Service) -> None:
    """End them all; raises WrongState when that does not last."""
    deadline = time.monotonic() + END_DEADLINE
    while pids := helpers(ctx, *services):
        for pid in pids:
            end(ctx, pid, *services)
        if time.monotonic() > deadline:
            raise WrongState(
                f"the keeper (process {pids[0]}) does not end, or is started again and again",
                hint="see what starts it, end that, then try again",
            )
