"""What is known of a vm's QEMU: ``run.json`` while it lives, ``exit.json`` once it is gone."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

SCHEMA = 1


@dataclass(frozen=True)
class Run:
    """One life of a QEMU process.

    ``pid`` is None in the moment between deciding to start and knowing the process; ``pid_started`` (seconds since the
    epoch) says which process that was, for whoever reads the file later. ``boot_id`` names the host's boot, so a record
    left by a reboot is known. ``base`` is the id of the base whose memory it maps, if it began in one; until its guest
    has an identity of its own it has not ``begun``. ``backend`` is the kind of switch that its networks go through, or
    went, before it was detached from all; empty where it was on none.
    """

    uuid: str
    boot_id: str
    started: str
    argv: tuple[str, ...]
    qemu_version: str
    accelerator: str
    cpu: str
    base: str | None = None
    begun: bool = True
    backend: str = ""
    pid: int | None = None
    pid_started: float | None = None


class ExitCause(StrEnum):
    """Why a QEMU is gone."""

    REQUESTED = "requested"
    GUEST = "guest"
    KILLED = "killed"
    FAILED = "failed"
    NOT_STARTED = "not-started"
    HOST_RESTARTED = "host-restarted"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Exit:
    """How the last life ended; ``reason`` is one line for people, ``ended`` when it was noticed (RFC 3339 UTC)."""

    cause: ExitCause
    reason: str
    ended: str

    @property
    def is_failure(self) -> bool:
        """Whether neither the owner nor the guest wanted it."""
        return self.cause in (ExitCause.KILLED, ExitCause.FAILED, ExitCause.UNKNOWN)
