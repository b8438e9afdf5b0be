"""What a verb may assume of a vm, asked in one place."""

from __future__ import annotations

from appcat.errors import WrongState
from appcat.services.context import Context
from appcat.services.observe import is_alive


def require_alive(ctx: Context, name: str) -> None:
    """Raise WrongState unless the vm's QEMU lives."""
    if not is_alive(ctx, name):
        raise not_running(name, "stopped")


def require_stopped(ctx: Context, name: str, what: str) -> None:
    """Raise WrongState while the vm's QEMU lives; ``what`` is a phrase such as "its memory can be changed"."""
    if is_alive(ctx, name):
        raise WrongState(
            f"{name} is running; {what} only while it is stopped",
            hint=f"stop it first: appcat vm stop {name}",
            code="vm-running",
        )


def not_running(name: str, status: str) -> WrongState:
    """The error for a vm that would have to run."""
    return WrongState(f"{name} is {status}", hint=f"start it: appcat vm start {name}", code="vm-not-running")


def paused(name: str) -> WrongState:
    """The error for a vm whose guest would have to answer."""
    return WrongState(f"{name} is paused", hint=f"let it go on: appcat vm unpause {name}", code="vm-paused")
