"""Being asked to stop: what long work calls again and again, so that whoever waits for it can call it off.

A check returns while the work may go on, and raises (``errors.Cancelled``) once it may not. It is cheap enough for
every turn of a loop. Work that is called off leaves what an interrupt at that place leaves.
"""

from __future__ import annotations

from collections.abc import Callable

Check = Callable[[], None]

# How long, in seconds, a wait may last without a check.
TICK = 0.2


def unchecked() -> None:
    """The check of work that nobody calls off."""
