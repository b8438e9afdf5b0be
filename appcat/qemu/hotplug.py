"""What is plugged into a running machine's root ports, and taking a device out again.

Source: ``device_add``, ``device_del`` and ``DEVICE_DELETED`` of the QEMU QMP Reference Manual. The guest is asked to
let a device go and QEMU says when it has; a guest that is still booting does not hear it.
"""

from __future__ import annotations

import contextlib
import re
import time

from appcat.checks import Check, unchecked
from appcat.errors import QemuError
from appcat.model.machine import HOTPLUG_PORTS
from appcat.qemu.monitor import CommandRefused, Monitor, MonitorSilent

PERIPHERALS = "/machine/peripheral"
# Seconds after which QEMU takes a second request for the same device (``pending_deleted_expires_ms``).
ASK_AGAIN = 6.0

_PORT = re.compile(r"/(hot[0-9]+)$")
_UNDER_WAY = "in the process of unplug"


def has_device(monitor: Monitor, device: str) -> bool:
    """Whether QEMU has a device with this id."""
    return any(child["name"] == device for child in monitor.execute("qom-list", path=PERIPHERALS))


def plugged_in(monitor: Monitor) -> dict[str, str]:
    """The root port of each device that sits behind one, by the device's id.

    Asked of the object tree: ``query-pci`` sees behind a root port only when the guest has set it up.
    """
    found = {}
    for child in monitor.execute("qom-list", path=PERIPHERALS):
        with contextlib.suppress(CommandRefused):  # what is on no bus
            bus = monitor.execute("qom-get", path=f"{PERIPHERALS}/{child['name']}", property="parent_bus")
            if port := _PORT.search(str(bus)):
                found[child["name"]] = port[1]
    return found


def free_ports(monitor: Monitor) -> list[str]:
    """Root ports with nothing in them, the lowest first."""
    taken = set(plugged_in(monitor).values())
    return [port for port in (f"hot{number}" for number in range(HOTPLUG_PORTS)) if port not in taken]


def take_out(monitor: Monitor, device: str, patience: float, check: Check = unchecked) -> None:
    """Have the guest let a device go; one that is not there is fine.

    Raises QemuError when the guest has not within ``patience`` seconds (it still may later), and CommandRefused when
    the device cannot be taken out at all.
    """
    deadline = time.monotonic() + patience
    while has_device(monitor, device):
        left = deadline - time.monotonic()
        if left <= 0:
            raise QemuError(f"the guest does not let go of {device}", hint="try again, or stop the vm first")
        _ask(monitor, device)
        _await_removal(monitor, device, min(left, ASK_AGAIN), check)


def _ask(monitor: Monitor, device: str) -> None:
    try:
        monitor.execute("device_del", id=device)
    except CommandRefused as error:
        gone = error.error_class == "DeviceNotFound"
        if not gone and _UNDER_WAY not in error.description:
            raise


def _await_removal(monitor: Monitor, device: str, patience: float, check: Check) -> None:
    deadline = time.monotonic() + patience
    with contextlib.suppress(MonitorSilent):
        while (left := deadline - time.monotonic()) > 0:
            event = monitor.next_event(left, check)
            if event["event"] == "DEVICE_DELETED" and event["data"].get("device") == device:
                return
