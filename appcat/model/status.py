"""What a vm is doing now: derived at every look, stored nowhere."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from appcat.model.run import Exit, Run
from appcat.model.vm import Vm


class Status(StrEnum):
    """The states a look can find.

    ::

        stopped --start--> running <--pause/unpause--> paused
           ^                  |  stop, kill, guest powers off, QEMU dies
           +------------------+
        busy          another command works on the vm right now; ``detail`` names its verb
        unresponsive  QEMU lives but its monitor is silent: 'kill' helps
        broken        vm.json cannot be read; ``detail`` says why
    """

    STOPPED = "stopped"
    RUNNING = "running"
    PAUSED = "paused"
    BUSY = "busy"
    UNRESPONSIVE = "unresponsive"
    BROKEN = "broken"


@dataclass(frozen=True)
class Observation:
    """One vm at one moment. ``vm`` is None when broken, ``run`` unless a QEMU is recorded."""

    name: str
    status: Status
    detail: str = ""
    vm: Vm | None = None
    run: Run | None = None
    last_exit: Exit | None = None
