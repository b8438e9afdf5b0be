"""Looking at all vms again and again, as a daemon does: what cannot have changed since the last look is not looked at.

A look at a vm is a function of its directory (``vm.json``, ``run.json`` and ``exit.json`` are replaced by renaming in
it), of who holds ``op.lock`` and ``run.lock``, and of what QEMU answers. What can be reused of it:

- Whoever replaces a file changes the directory's time, whoever edits ``vm.json`` in place its own, and whoever takes
  ``op.lock`` signs it: three times tell that nobody did anything. A stopped vm cannot change in any other way, since
  whoever starts it holds ``op.lock`` until its QEMU holds ``run.lock``.
- Of a vm that runs, ``run.lock`` is tried at each look, so its end is never missed. What its QEMU answered (running,
  paused) holds for ``ANSWER_HOLDS`` at most: nobody's command changed it, though its guest may have.

File systems stamp files with a clock that ticks every few milliseconds; two changes within one tick look like one. So
what is younger than ``SETTLED`` is not remembered.
"""

from __future__ import annotations

import functools
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from appcat.model.status import Observation, Status
from appcat.services.context import Context
from appcat.services.observe import is_alive, look_safely

ANSWER_HOLDS = 0.25
SETTLED_NS = 100_000_000
LOOKERS = 8

Mark = tuple[int, ...]
T = TypeVar("T")


@dataclass(frozen=True)
class _Seen(Generic[T]):
    """One look: what was seen and made of it, at what mark, and until when (monotonic seconds) QEMU's answer holds."""

    mark: Mark | None
    until: float
    observed: Observation
    shown: T


@dataclass
class Glances(Generic[T]):
    """All vms of a home as of now, each as ``show`` makes of it; safe for several threads.

    What has not changed is the very same object as at the look before. Remembers one look per vm that exists.
    """

    ctx: Context
    show: Callable[[Observation], T]
    _seen: dict[str, _Seen[T]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def look(self) -> list[T]:
        """Every vm, by name, as ``show`` tells it; may take as long as QEMUs take to answer."""
        with self._lock:
            found = {name: self._known(name) for name in self.ctx.store.names()}
            found |= self._looks([name for name, seen in found.items() if seen is None])
            self._seen = {name: seen for name, seen in found.items() if seen is not None}
            return [seen.shown for seen in self._seen.values()]

    def known(self) -> list[T] | None:
        """The same where nothing needs a new look, which takes a few microseconds per vm; else None."""
        seen = [self._known(name) for name in self.ctx.store.names()]
        return [one.shown for one in seen if one is not None] if None not in seen else None

    def _known(self, name: str) -> _Seen[T] | None:
        """The last look, if it still holds."""
        known = self._seen.get(name)
        return known if known is not None and known.mark == self._mark(name) and self._holds(known) else None

    def _looks(self, names: list[str]) -> dict[str, _Seen[T] | None]:
        """New looks, several at a time: most of it is waiting for QEMUs, and one that hangs takes seconds."""
        if len(names) <= 1:
            return {name: self._look(name) for name in names}
        with ThreadPoolExecutor(min(LOOKERS, len(names))) as pool:
            return dict(zip(names, pool.map(self._look, names), strict=True))

    def _look(self, name: str) -> _Seen[T] | None:
        mark, begun = self._mark(name), time.monotonic()
        observed = look_safely(self.ctx, name)
        if observed is None:
            return None
        known = self._seen.get(name)
        same = known is not None and known.observed == observed
        shown = known.shown if known is not None and same else self.show(observed)
        return _Seen(mark if _can_be_kept(observed) else None, begun + ANSWER_HOLDS, observed, shown)

    def _holds(self, known: _Seen[T]) -> bool:
        if known.mark is None:
            return False
        if known.observed.status is Status.STOPPED:
            return True
        return time.monotonic() < known.until and is_alive(self.ctx, known.observed.name)

    @functools.cached_property
    def _root(self) -> str:
        return str(self.ctx.layout.vms)

    def _mark(self, name: str) -> Mark | None:
        """The state of what would show a change; None when it is missing, or too young to tell."""
        root, stat = f"{self._root}/{name}", os.stat
        try:
            all_, spec, lock = stat(root), stat(f"{root}/vm.json"), stat(f"{root}/op.lock")
        except OSError:
            return None
        newest = max(all_.st_mtime_ns, spec.st_mtime_ns, lock.st_mtime_ns)
        if newest > time.time_ns() - SETTLED_NS:
            return None
        return (
            all_.st_ino,
            all_.st_mtime_ns,
            spec.st_ino,
            spec.st_mtime_ns,
            spec.st_size,
            lock.st_ino,
            lock.st_mtime_ns,
        )


def _can_be_kept(observed: Observation) -> bool:
    """Whether a look at this vm depends on nothing else than what is looked at again."""
    if observed.status is Status.STOPPED:
        return True
    return observed.status in (Status.RUNNING, Status.PAUSED) and observed.run is not None
