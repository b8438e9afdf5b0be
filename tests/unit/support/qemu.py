"""Small real QEMU processes: no machine, no guest, only a monitor."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from appcat.qemu import process
from appcat.qemu.monitor import Monitor, MonitorGone
from tests.unit.support.processes import PATIENCE, eventually

needs_qemu = pytest.mark.skipif(not shutil.which("qemu-system-x86_64"), reason="qemu-system-x86_64 is not installed")


@contextlib.contextmanager
def spawned(argv: Sequence[str], log: Path, inherit: Sequence[int] = ()) -> Iterator[subprocess.Popen[bytes]]:
    """A process started as appcat starts QEMU; killed and reaped at the end."""
    child = process.spawn(argv, log, inherit)
    try:
        yield child
    finally:
        child.kill()
        child.wait(PATIENCE)


def idle_argv(uuid: str, *sockets: Path) -> list[str]:
    """A QEMU that waits for commands at each of ``sockets``."""
    argv = ["qemu-system-x86_64", "-machine", "none", "-S", "-nodefaults", "-display", "none", "-uuid", uuid]
    for path in sockets:
        argv += ["-qmp", f"unix:{path},server=on,wait=off"]
    return argv


def connect(path: Path) -> Monitor:
    """A client of the monitor at ``path``, as soon as QEMU listens there."""

    def attempt() -> Monitor | None:
        with contextlib.suppress(MonitorGone):
            return Monitor(path)
        return None

    monitor = eventually(attempt)
    assert isinstance(monitor, Monitor)
    return monitor
