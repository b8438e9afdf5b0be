"""Moving a machine's state: out of a running QEMU, into one that waits, into a file and back.

Source: the migration chapter of the QEMU QMP Reference Manual (7.2). ``x-ignore-shared`` leaves guest memory out of a
state when it is in a file that both sides map.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appcat.errors import QemuError
from appcat.qemu.monitor import CommandRefused, Monitor

# Bytes a second: no limit. QEMU's own default would take two seconds for a pico.
UNLIMITED = 1 << 40
POLL = 0.001
# Seconds for the devices' state, which takes a tenth of one.
STATE_PATIENCE = 60.0
ENDED = frozenset({"completed", "failed", "cancelled"})
# So little left to copy that the guest is stopped.
NEARLY_DONE = 4 << 20


_TRY_AGAIN = "the vm goes on as before: try again, when the host is less busy"


class MigrationFailed(QemuError):
    """A state could not be moved."""

    code = "migration-failed"


@dataclass(frozen=True)
class Precopy:
    """A guest's memory on its way while the guest runs, in one pass; what it writes meanwhile comes last.

    One pass and not more: QEMU notes which pages a guest writes to, and takes stock of these notes at the beginning of
    each pass. Under software emulation a guest that runs at that moment may have a page taken off the list that it goes
    on writing to (``notdirty_write`` of 7.2's accel/tcg/cputlb.c checks, is overtaken, and drops its own watch): about
    one base in twenty was torn. So stock is taken only while the guest stands still: once before, once after.
    """

    monitor: Monitor

    def start(self, uri: str, timeout: float) -> float:
        """Begin; the guest stands still for so many seconds. It is to stop before the switch-over: halted, its disks
        still its own.
        """
        set_capabilities(self.monitor, {"pause-before-switchover": True, "x-ignore-shared": False})
        self.monitor.execute("migrate-set-parameters", max_bandwidth=UNLIMITED, downtime_limit=0)
        begun = time.monotonic()
        self.monitor.execute("stop")
        try:
            self.monitor.execute("migrate", uri=uri)
            while status(self.monitor)["status"] in ("none", "setup") and time.monotonic() < begun + timeout:
                time.sleep(POLL)
        finally:
            self.monitor.execute("cont")
        return time.monotonic() - begun

    def left(self) -> int:
        """Bytes still to copy; 0 when the pass is over, or the migration has ended."""
        info = status(self.monitor)
        return int(info.get("ram", {}).get("remaining", 0)) if info["status"] == "active" else 0


def set_capabilities(monitor: Monitor, wanted: dict[str, bool]) -> None:
    """Switch migration capabilities on or off; those not named stay as they are."""
    states = [{"capability": name, "state": state} for name, state in wanted.items()]
    monitor.execute("migrate-set-capabilities", capabilities=states)


def status(monitor: Monitor) -> dict[str, Any]:
    """``query-migrate``; its ``status`` is "none" before the first."""
    return {"status": "none", **monitor.execute("query-migrate")}


def await_status(monitor: Monitor, wanted: str, timeout: float) -> None:
    """Wait until the migration is ``wanted``; raises MigrationFailed when it ends otherwise, or after ``timeout`` s."""
    deadline = time.monotonic() + timeout
    while True:
        info = status(monitor)
        if info["status"] == wanted:
            return
        if info["status"] in ENDED:
            reason = info.get("error-desc", info["status"])
            raise MigrationFailed(f"QEMU could not move the vm's state: {reason}", hint=_TRY_AGAIN)
        if time.monotonic() > deadline:
            raise MigrationFailed(
                f"moving the vm's state took longer than {timeout:g} s: it is {info['status']}", hint=_TRY_AGAIN
            )
        time.sleep(POLL)


def go_on(monitor: Monitor) -> None:
    """Let a source whose migration is completed run again.

    ``query-migrate`` says "completed" a moment before QEMU has left its state ``finish-migrate``, in which it refuses
    ``cont``. Raises QemuError.
    """
    deadline = time.monotonic() + STATE_PATIENCE
    while monitor.execute("query-status")["status"] == "finish-migrate" and time.monotonic() < deadline:
        time.sleep(POLL)
    monitor.execute("cont")


def save(monitor: Monitor, path: Path) -> None:
    """Write the devices' state to a new file; memory must be in a file of its own, and the guest must be stopped."""
    set_capabilities(monitor, {"x-ignore-shared": True})
    monitor.execute("migrate-set-parameters", max_bandwidth=UNLIMITED)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        monitor.give("state", descriptor)
    finally:
        os.close(descriptor)
    monitor.execute("migrate", uri="fd:state")
    await_status(monitor, "completed", STATE_PATIENCE)


def load(monitor: Monitor, path: Path) -> None:
    """Take over what ``save`` wrote, in a QEMU that waits and maps the memory's file.

    Nobody is told of it: the guest is not itself yet, and announcing its source's cards would cost it milliseconds.
    """
    set_capabilities(monitor, {"x-ignore-shared": True})
    monitor.execute("migrate-set-parameters", announce_rounds=0)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        monitor.give("state", descriptor)
    finally:
        os.close(descriptor)
    monitor.execute("migrate-incoming", uri="fd:state")
    await_status(monitor, "completed", STATE_PATIENCE)


def call_off(monitor: Monitor, timeout: float) -> None:
    """End a migration that is under way, if one is; the guest stays as it is."""
    if status(monitor)["status"] in (*ENDED, "none"):
        return
    try:
        monitor.execute("migrate_cancel")
    except CommandRefused:
        return
    deadline = time.monotonic() + timeout
    while status(monitor)["status"] not in ENDED and time.monotonic() < deadline:
        time.sleep(POLL)
