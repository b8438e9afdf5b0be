"""Which boot of the host this is, so that what an earlier one left behind is known for what it is."""

from __future__ import annotations

from pathlib import Path

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def boot_id() -> str:
    """A text that differs between boots: the kernel's own id, or the boot time where there is none."""
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        import psutil

        return f"booted-{int(psutil.boot_time())}"
