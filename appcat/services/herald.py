"""The keeper's part in networks: guests that missed who is on theirs are told, a hub that has ended is started again.

It looks at all vms at every tick, and so reads only files that have changed since. Telling a guest may take as long as
it likes: that is done by a few threads nobody waits for, and a guest that does not answer is asked less and less often.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field

from appcat.errors import AppcatError
from appcat.guest.patience import Errand
from appcat.model.machine import Backend
from appcat.model.vm import Vm
from appcat.services.census import Census, Mark, mark
from appcat.services.context import Context
from appcat.services.neighbours import TELLERS, can_be_told, digest, network_statements, note_deaf, tell, told
from appcat.switch import client

log = logging.getLogger(__name__)

PATIENCE = 5.0
FIRST_DELAY, LONGEST_DELAY = 2.0, 60.0


@dataclass
class Trial:
    """How often telling a guest has failed in a row, and when it is tried again (monotonic seconds)."""

    count: int = 0
    due: float = 0.0


@dataclass
class Herald:
    """Who is being told, or is to be (by uuid), and what guests should know, reckoned when a file has changed.

    The threads take names from ``_queue`` and put into ``_outcomes`` what came of them; both may be touched by several.
    """

    ctx: Context
    census: Census = field(init=False)
    waiting: set[str] = field(default_factory=set)
    trials: dict[str, Trial] = field(default_factory=dict)
    _queue: deque[tuple[str, str]] = field(default_factory=deque)
    _outcomes: deque[tuple[str, Exception | None]] = field(default_factory=deque)
    _tellers: list[Errand[None]] = field(default_factory=list)
    _vms: tuple[Vm, ...] = ()
    _wanted: dict[str, str] = field(default_factory=dict)
    _backends: dict[str, tuple[Mark | None, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.census = Census(self.ctx)

    def tick(self, running: Collection[str]) -> None:
        """One round over the vms with these names, which run; raises NetworkError when a hub cannot be started."""
        if (vms := self.census.vms()) is not self._vms:
            self._vms, self._wanted = vms, {}
        here = [vm for vm in vms if vm.name in running]
        self._harvest()
        self.trials = {uuid: trial for uuid, trial in self.trials.items() if uuid in {vm.uuid for vm in here}}
        for vm in here:
            if self._is_due(vm):
                self.waiting.add(vm.uuid)
                self._queue.append((vm.uuid, vm.name))
        self._tellers = [teller for teller in self._tellers if not teller.ended(0)]
        for _ in range(min(len(self._queue), TELLERS - len(self._tellers))):
            self._tellers.append(Errand(self._tell_all))
        self._mind_switch([vm for vm in here if vm.networks])

    def was_reset(self, uuid: str) -> None:
        """A guest boots again, by the document of its QEMU's start: what it was told since is lost."""
        note_deaf(self.ctx, uuid)
        self.trials.pop(uuid, None)

    def _harvest(self) -> None:
        """Take note of what came of those who were told."""
        while self._outcomes:
            uuid, error = self._outcomes.popleft()
            self.waiting.discard(uuid)
            if error is None:
                self.trials.pop(uuid, None)
            else:
                self._failed(uuid, error)

    def _failed(self, uuid: str, error: Exception) -> None:
        trial = self.trials.setdefault(uuid, Trial())
        if trial.count == 0:
            log.info("the guest %s cannot be told who is on its networks: %s", uuid, error)
        trial.due = time.monotonic() + delay(trial.count)
        trial.count += 1

    def _is_due(self, vm: Vm) -> bool:
        """Whether the guest is to be told something now: not while it is being told, nor too soon after a failure."""
        trial = self.trials.get(vm.uuid)
        if vm.uuid in self.waiting or (trial and time.monotonic() < trial.due):
            return False
        known = told(self.ctx, vm)
        never_was_on_any = known is None and not vm.networks
        return not never_was_on_any and known != self._digest(vm, known) and can_be_told(self.ctx, vm)

    def _tell_all(self) -> None:
        """What a thread does: tell whoever is next, until nobody is."""
        while True:
            try:
                uuid, name = self._queue.popleft()
            except IndexError:
                return
            error: Exception | None = None
            try:
                tell(self.ctx, name, PATIENCE, self.census)
            except Exception as failure:  # whatever it is, it must not be waited for for ever
                error = failure
            self._outcomes.append((uuid, error))

    def _digest(self, vm: Vm, known: str | None) -> str | None:
        """What stands for all that the guest should know; what is ``known`` to it where that cannot be said."""
        if vm.name not in self._wanted:
            try:
                self._wanted[vm.name] = digest(network_statements(self.ctx, vm, self._vms))
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
