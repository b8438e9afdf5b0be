"""The switch's own files, below the runtime directory.

::

    RUNTIME/switch.sock         asked for ports
    RUNTIME/switch/lock         held by the switch for as long as it lives
    RUNTIME/switch/log          its words; cut when large
    RUNTIME/switch/namespace    bridge: "BOOT-ID INODE" of the network namespace
    RUNTIME/switch/PORT.port    hub: the name of the network that the port is connected to, or nothing
    RUNTIME/switch/PORT.hub     hub: the socket that frames of this port come to
    RUNTIME/switch/PORT.vm      hub: the socket that QEMU binds, where frames for this port go
"""

from __future__ import annotations

import contextlib
import os

PORT, HUB, VM = ".port", ".hub", ".vm"
BOOT_ID = "/proc/sys/kernel/random/boot_id"


class Files:
    """Paths below one runtime directory, as text: the switch does without pathlib."""

    def __init__(self, runtime: str) -> None:
        self.root = os.path.join(runtime, "switch")
        self.socket = os.path.join(runtime, "switch.sock")
        self.lock = os.path.join(self.root, "lock")
        self.log = os.path.join(self.root, "log")
        self.namespace = os.path.join(self.root, "namespace")

    def of(self, port: str, suffix: str) -> str:
        """A file of a port: ``PORT``, ``HUB`` or ``VM``."""
        return os.path.join(self.root, port + suffix)

    def ports(self) -> list[str]:
        """The names of ports that the hub has files of."""
        try:
            names = os.listdir(self.root)
        except FileNotFoundError:
            return []
        return sorted(name.removesuffix(PORT) for name in names if name.endswith(PORT) and not name.startswith("."))

    def network_of(self, port: str) -> str | None:
        """The network that the hub's ``port`` is connected to: empty for none, None where there is no such port."""
        return read(self.of(port, PORT))

    def boot_inode(self) -> int | None:
        """The inode of the namespace that was made in this boot of the host, if any."""
        boot, _, inode = (read(self.namespace) or "").partition(" ")
        return int(inode) if inode.isdecimal() and boot == boot_id() else None


def read(path: str) -> str | None:
    """What a small file holds; None when there is no such file."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except FileNotFoundError:
        return None


def write(path: str, text: str) -> None:
    """Replace a small file at once; a reboot may lose it."""
    head, name = os.path.split(path)
    temporary = os.path.join(head, f".{name}.{os.getpid()}")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(temporary, path)


def remove(path: str) -> None:
    """Remove a file that may be gone already."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def boot_id() -> str:
    """Which boot of the host this is; empty where the kernel does not say."""
    try:
        return read(BOOT_ID) or ""
    except OSError:
        return ""
