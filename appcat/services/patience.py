"""How long is waited: what was asked for, else the home's default, else these seconds."""

from __future__ import annotations

from appcat.model.config import parse_seconds
from appcat.services import config
from appcat.services.context import Context

READY_DEADLINE = 180.0
STOP_DEADLINE = 60.0


def start_wait(ctx: Context, given: float | None) -> float:
    """Seconds to wait for a guest: ``given``, else the home's default; raises InvalidInput, Broken."""
    return given if given is not None else config.value_of(ctx, "start-timeout", parse_seconds, READY_DEADLINE)


def stop_wait(ctx: Context, given: float | None) -> float:
    """Seconds a guest may take to power off: ``given``, else the home's default; raises InvalidInput, Broken."""
    return given if given is not None else config.value_of(ctx, "stop-timeout", parse_seconds, STOP_DEADLINE)
