"""``wait``: until a vm is in a state."""

from __future__ import annotations

import time
from enum import StrEnum

from appcat.errors import DeadlineExceeded, NotFound, WrongState
from appcat.model.status import Status
from appcat.services.context import Context
from appcat.services.observe import show
from appcat.services.start import wait_ready

POLL = 0.2


class Until(StrEnum):
    """What can be waited for; ``ready`` is a guest whose agent answers."""

    READY = "ready"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"
    DELETED = "deleted"


def wait(ctx: Context, name: str, until: Until, timeout: float) -> None:
    """Return as soon as the vm is in the state; raises DeadlineExceeded after ``timeout`` seconds.

    Raises NotFound when there is no such vm (unless its end is awaited), WrongState when it is broken.
    """
    deadline = time.monotonic() + timeout
    while not _is(ctx, name, until, deadline):
        if time.monotonic() >= deadline:
            raise DeadlineExceeded(f"{name} was not {until} within {timeout:g} s", hint=f"see 'appcat vm show {name}'")
        ctx.check()
        time.sleep(POLL)


def _is(ctx: Context, name: str, until: Until, deadline: float) -> bool:
    try:
        seen = show(ctx, name)
    except NotFound:
        if until is Until.DELETED:
            return True
        raise
    if seen.status is Status.BROKEN and until is not Until.DELETED:
        raise WrongState(f"{name} is broken: {seen.detail}", hint=f"see 'appcat vm show {name}'", code="vm-broken")
    if until is Until.READY:
        if seen.status is not Status.RUNNING or seen.vm is None:
            return False
        wait_ready(ctx, seen.vm, max(deadline - time.monotonic(), 0.1))
        return True
    return str(seen.status) == until
