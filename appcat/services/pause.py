"""``pause`` halts a vm's processors, ``unpause`` lets them go on. Memory stays where it is."""

from __future__ import annotations

import logging

from appcat.errors import AppcatError
from appcat.model.event import EventKind
from appcat.qemu.monitor import Monitor
from appcat.services import guests
from appcat.services.changing import changing
from appcat.services.context import Context
from appcat.services.events import record
from appcat.services.states import require_alive

log = logging.getLogger(__name__)


def pause(ctx: Context, name: str) -> bool:
    """Halt the vm; False when it was paused already. Raises NotFound, Busy, WrongState, MonitorError."""
    return _set_running(ctx, name, "pause", running=False)


def unpause(ctx: Context, name: str) -> bool:
    """Let the vm go on and correct its clock; False when it ran already. Raises as ``pause``."""
    changed = _set_running(ctx, name, "unpause", running=True)
    if changed:
        try:
            guests.set_clock(ctx, ctx.store.load(name))
        except AppcatError as error:
            log.warning("the clock of %s could not be corrected: %s", name, error)
    return changed


def _set_running(ctx: Context, name: str, verb: str, *, running: bool) -> bool:
    with changing(ctx, name, verb) as vm:
        require_alive(ctx, name)
        with Monitor(ctx.layout.runtime(vm.uuid).monitor) as monitor:
            if bool(monitor.execute("query-status")["running"]) is running:
                return False
            monitor.execute("cont" if running else "stop")
        record(ctx, EventKind.VM_UNPAUSED if running else EventKind.VM_PAUSED, vm)
        return True
