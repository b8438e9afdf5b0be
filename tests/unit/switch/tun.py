"""Access to /dev/net/tun for the time of a test."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

TUN = Path("/dev/net/tun")
LOCK = Path("/tmp/appcat-test-tun.lock")


@contextlib.contextmanager
def mode(wanted: int) -> Iterator[None]:
    """The device with these permissions; needs root. Tests in other processes wait for their turn."""
    descriptor = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        before = stat.S_IMODE(TUN.stat().st_mode)
        try:
            TUN.chmod(wanted)
            yield
        finally:
            TUN.chmod(before)
    finally:
        os.close(descriptor)
