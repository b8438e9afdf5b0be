"""Changing a vm only if it is still as the caller saw it: for writers that cannot hold a lock between look and change.

The check is made where the change is, under the same ``op.lock``; so what may be expected is the thread's, like the
change, and no service has to pass it on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from contextvars import ContextVar
from dataclasses import dataclass

from appcat.errors import AppcatError, Stale
from appcat.services.context import Context


@dataclass
class Expectation:
    """Of the vm ``name``, that its tag (``VmStore.tag``) is one of ``tags``; None expects nothing.

    ``left`` is the tag that the change left, where it was seen before the lock was given back.
    """

    name: str
    tags: Collection[str] | None
    left: str = ""

    def check(self, ctx: Context, name: str) -> None:
        """Raise Stale when ``name`` is the vm and not as expected, NotFound, Broken."""
        if name == self.name and self.tags is not None and ctx.store.tag(name) not in self.tags:
            raise Stale(
                f"{name} was changed since you looked",
                hint=f"look again (GET /v1/vms/{name}) and decide anew",
            )

    def note(self, ctx: Context, name: str) -> None:
        """Remember what the change has left; a vm that is gone leaves nothing."""
        if name == self.name:
            with contextlib.suppress(AppcatError):
                self.left = ctx.store.tag(name)


NOTHING = Expectation("", None)

_present: ContextVar[Expectation] = ContextVar("expectation", default=NOTHING)


@contextlib.contextmanager
def expecting(name: str, tags: Collection[str] | None) -> Iterator[Expectation]:
    """Changes of ``name`` in the block, by this thread, are refused (Stale) unless its tag is one of ``tags``."""
    token = _present.set(Expectation(name, tags))
    try:
        yield _present.get()
    finally:
        _present.reset(token)


def expectation() -> Expectation:
    """What this thread expects."""
    return _present.get()
