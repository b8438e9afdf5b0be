"""All vms of a home, for who needs them again and again: only files that have changed since are read."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from appcat.errors import AppcatError
from appcat.model.vm import Vm
from appcat.services.context import Context

# File systems stamp files with a clock that ticks every few milliseconds: what is younger than this is read again.
SETTLED_NS = 100_000_000

Mark = tuple[int, ...]


@dataclass
class Census:
    """The vms as their files say, by what their files looked like then; for several threads."""

    ctx: Context
    _marks: dict[str, Mark | None] = field(default_factory=dict)
    _vms: dict[str, Vm] = field(default_factory=dict)
    _answer: tuple[Vm, ...] = ()
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def vms(self) -> tuple[Vm, ...]:
        """Every vm that is not broken, by name: the very tuple as before where no vm and no network has changed."""
        with self._lock:
            layout = self.ctx.layout
            vms = {name: mark(layout.vm(name).spec) for name in self.ctx.store.names()}
            networks = {f"{name}.json": mark(layout.network(name)) for name in self.ctx.networks.names()}
            if (marks := {**vms, **networks}) != self._marks or None in marks.values():
                self._vms = {name: vm for name in vms if (vm := self._vm(name, vms[name])) is not None}
                self._marks, self._answer = marks, tuple(self._vms.values())
            return self._answer

    def _vm(self, name: str, now: Mark | None) -> Vm | None:
        if now is not None and self._marks.get(name) == now:
            return self._vms.get(name)
        try:
            return self.ctx.store.load(name)
        except AppcatError:  # broken, or gone this moment
            return None


def mark(path: Path) -> Mark | None:
    """What stands for the contents of a file that is replaced, never written in place; None when it is too young."""
    try:
        seen = path.stat()
    except OSError:
        return ()
    if time.time_ns() - seen.st_mtime_ns < SETTLED_NS:
        return None
    return seen.st_mtime_ns, seen.st_ino, seen.st_size
