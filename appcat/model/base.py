"""A base: a running vm frozen at one instant, for any number of instant clones to begin in."""

from __future__ import annotations

from dataclasses import dataclass, field

from appcat.errors import Conflict
from appcat.model.host import Host
from appcat.model.run import Run
from appcat.model.vm import Vm

SCHEMA = 1


class StateMismatch(Conflict):
    """A saved state does not fit the machine that this host would build now."""

    code = "state-mismatch"


@dataclass(frozen=True)
class Base:
    """What ``base.json`` holds.

    ``vm`` is the source as it was, its disks' files being layers. ``plugged`` names the root port of each disk that had
    been plugged in while it ran. ``memory`` is the path of its memory, of ``memory_used`` bytes really taken. ``warm``
    is the digest of all that a warm template depends on; empty for a base made of somebody's vm. ``backend`` is the
    kind of switch that its cards on private networks had ports of; empty where it has none.
    """

    id: str
    created: str
    vm: Vm
    qemu_version: str
    accelerator: str
    cpu: str
    memory: str
    memory_used: int = 0
    plugged: dict[str, str] = field(default_factory=dict)
    warm: str = ""
    backend: str = ""


def check_fits(saved: Base | Run, name: str, host: Host, cpu: str, backend: str = "") -> None:
    """Raise StateMismatch when a state of the vm ``name`` does not fit what this host would start now.

    ``backend`` is the kind of switch that this host has for the vm's networks; empty where it is on none.
    """
    parts = (
        ("QEMU", saved.qemu_version, host.qemu.version),
        ("the accelerator", saved.accelerator, str(host.accelerator)),
        ("the processor model", saved.cpu, cpu),
        ("networks over the switch", saved.backend or backend, backend or saved.backend),
    )
    for what, then, here in parts:
        if then != here:
            raise StateMismatch(
                f"{name} runs with {what} {then}; what would start now has {here}",
                hint=f"appcat vm restart {name}, then try again",
            )
