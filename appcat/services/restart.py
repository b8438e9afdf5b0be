"""``restart``: stop and start again, from the disk up."""

from __future__ import annotations

from appcat.model.event import EventKind
from appcat.services.context import Context
from appcat.services.events import record
from appcat.services.operations import existing, tracked
from appcat.services.patience import READY_DEADLINE, STOP_DEADLINE
from appcat.services.start import start
from appcat.services.stop import kill, stop


@tracked("restart", existing)
def restart(
    ctx: Context,
    name: str,
    *,
    force: bool = False,
    timeout: float = STOP_DEADLINE,
    ready_within: float | None = READY_DEADLINE,
) -> bool:
    """Stop the vm, ``force`` by cutting its power, and start it; one that was stopped is started. True always.

    Raises what ``stop`` and ``start`` raise; a guest that does not power off in ``timeout`` seconds keeps running.
    """
    if force:
        kill(ctx, name)
    else:
        stop(ctx, name, timeout=timeout)
    started = start(ctx, name, ready_within=ready_within)
    record(ctx, EventKind.VM_RESTARTED, started.vm, by="owner")
    return True
