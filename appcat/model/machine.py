"""The fixed shape of the virtual hardware, and what of the host it is wired to.

States saved from a running vm fit only a machine of the same shape, so these numbers change only together with the
machine type; ``docs/decisions/0002-machine-layout.md`` argues them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from appcat.model.vm import Arch, Machine

MACHINE_TYPES = {Arch.X86_64: "pc-q35-7.2", Arch.AARCH64: "virt-7.2"}

HOTPLUG_PORTS = 8
SHARE_SLOTS = 8

AGENT_PORT = "org.qemu.guest_agent.0"
GUEST_PORT = "org.appcat.guest.0"
IDENTITY_ITEM = "opt/org.appcat/identity"

# QEMU's user-mode network, from the guest's side; the numbers are libslirp's defaults, given explicitly.
USER_NETWORK = "10.0.2.0/24"
USER_HOST = "10.0.2.2"
USER_DNS = "10.0.2.3"
USER_GUEST = "10.0.2.15"


def pinned_machine(arch: Arch) -> Machine:
    """The machine type that new vms get, whatever newer one the installed QEMU has."""
    return Machine(arch, MACHINE_TYPES[arch])


@dataclass(frozen=True)
class Boot:
    """What a machine starts from: an uncompressed kernel, its initial file system, the kernel's arguments."""

    kernel: Path
    initramfs: Path
    arguments: str


@dataclass(frozen=True)
class Wiring:
    """Host paths that one run of a machine is connected to. ``disks`` are in the order of the vm's own."""

    monitor: Path
    status: Path
    events: Path
    agent: Path
    guest: Path
    console: Path
    console_log: Path
    identity: Path
    shares: tuple[Path, ...]
    disks: tuple[Path, ...] = ()
