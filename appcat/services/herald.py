"""The keeper's part in networks: guests that missed who is on theirs are told, a hub that has ended is started again.

It looks at all vms at every tick, and so reads only files that have changed since. Telling a guest may take as long as
it likes: that is done by threads nobody waits for, a few at a time, and a guest that does not answer is asked less and
less often.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from appcat.errors import AppcatError
from appcat.guest.patience import Errand
from appcat.model.machine import Backend
from appcat.model.vm import Vm
from appcat.services.context import Context
from appcat.services.neighbours import TELLERS, can_be_told, digest, network_statements, note_deaf, tell, told
from appcat.switch import client

log = logging.getLogger(__name__)

PATIENCE = 5.0
FIRST_DELAY, LONGEST_DELAY = 2.0, 60.0
# File systems stamp files with a clock that ticks every few milliseconds: what is younger than this is read again.
SETTLED_NS = 100_000_000

Mark = tuple[int, ...]


@dataclass
class Trial:
    """How often telling a guest has failed in a row, and when it is tried again (monotonic seconds)."""

    count: int = 0
    due: float = 0.0


@dataclass
class Herald:
    """What is known from the last look: the contents of files by their ``marks``, and who is being told (by uuid)."""

    ctx: Context
    errands: dict[str, Errand[bool]] = field(default_factory=dict)
    trials: dict[str, Trial] = field(default_factory=dict)
    _marks: dict[str, Mark | None] = field(default_factory=dict)
    _vms: dict[str, Vm] = field(default_factory=dict)
    _wanted: dict[str, str] = field(default_factory=dict)
    _backends: dict[str, tuple[Mark | None, str]] = field(default_factory=dict)

    def tick(self, running: Collection[str]) -> None:
        """One round over the vms with these names, which run; raises NetworkError when a hub cannot be started."""
        self._look()
        here = [self._vms[name] for name in running if name in self._vms]
        self._harvest()
        self.trials = {uuid: trial for uuid, trial in self.trials.items() if uuid in {vm.uuid for vm in here}}
        for vm in here:
            self._send_to(vm)
        self._mind_switch([vm for vm in here if vm.networks])

    def was_reset(self, uuid: str) -> None:
        """A guest boots again, by the document of its QEMU's start: what it was told since is lost."""
        note_deaf(self.ctx, uuid)
        self.trials.pop(uuid, None)

    def _look(self) -> None:
        """Read the vms' files that have changed; what guests are to be told is reckoned anew when any has."""
        layout = self.ctx.layout
        marks = {name: mark(layout.vm(name).spec) for name in self.ctx.store.names()}
        networks = {f"{name}.json": mark(layout.network(name)) for name in self.ctx.networks.names()}
        if (seen := {**marks, **networks}) == self._marks and None not in seen.values():
            return
        self._vms = {name: vm for name in marks if (vm := self._vm(name, marks[name])) is not None}
        self._marks, self._wanted = seen, {}

    def _vm(self, name: str, now: Mark | None) -> Vm | None:
        if now is not None and self._marks.get(name) == now:
            return self._vms.get(name)
        try:
            return self.ctx.store.load(name)
        except AppcatError:  # broken, or gone this moment
            return None

    def _harvest(self) -> None:
        """Take note of what came of errands that have ended."""
        for uuid, errand in list(self.errands.items()):
            if errand.ended(0):
                del self.errands[uuid]
                try:
                    errand.result()
                    self.trials.pop(uuid, None)
                except (AppcatError, OSError) as error:
                    self._failed(uuid, error)

    def _failed(self, uuid: str, error: Exception) -> None:
        trial = self.trials.setdefault(uuid, Trial())
        if trial.count == 0:
            log.info("the guest %s cannot be told who is on its networks: %s", uuid, error)
        trial.due = time.monotonic() + delay(trial.count)
        trial.count += 1

    def _send_to(self, vm: Vm) -> None:
        """Have the guest told what it does not know, unless it is being told, or it is not yet time for another try."""
        trial = self.trials.get(vm.uuid)
        if vm.uuid in self.errands or len(self.errands) >= TELLERS or (trial and time.monotonic() < trial.due):
            return
        known = told(self.ctx, vm)
        never_was_on_any = known is None and not vm.networks
        if never_was_on_any or known == self._digest(vm, known) or not can_be_told(self.ctx, vm):
            return
        self.errands[vm.uuid] = Errand(lambda: tell(self.ctx, vm.name, PATIENCE))

    def _digest(self, vm: Vm, known: str | None) -> str | None:
        """What stands for all that the guest should know; what is ``known`` to it where that cannot be said."""
        if vm.name not in self._wanted:
            try:
                self._wanted[vm.name] = digest(network_statements(self.ctx, vm, list(self._vms.values())))
            except AppcatError as error:
                log.warning("%s cannot be told of its networks: %s", vm.name, error)
                self._wanted[vm.name] = ""
        return self._wanted[vm.name] or known

    def _mind_switch(self, vms: Collection[Vm]) -> None:
        """Traffic through a hub stands still until there is one again."""
        self._backends = {vm.name: self._backend(vm.name) for vm in vms}
        if any(backend == Backend.HUB for _, backend in self._backends.values()):
            client.ensure(self.ctx.layout)

    def _backend(self, name: str) -> tuple[Mark | None, str]:
        now = mark(self.ctx.layout.vm(name).run)
        known = self._backends.get(name)
        if known is not None and now is not None and known[0] == now:
            return known
        run = self.ctx.store.load_run(name)
        return now, run.backend if run else ""


def delay(count: int) -> float:
    """Seconds to wait after so many failures (from 0) in a row: doubling, up to a minute."""
    return min(FIRST_DELAY * 2.0 ** min(count, 10), LONGEST_DELAY)


def mark(path: Path) -> Mark | None:
    """What stands for the contents of a file that is replaced, never written in place; None when it is too young."""
    try:
        seen = path.stat()
    except OSError:
        return ()
    if time.time_ns() - seen.st_mtime_ns < SETTLED_NS:
        return None
    return seen.st_mtime_ns, seen.st_ino, seen.st_size
