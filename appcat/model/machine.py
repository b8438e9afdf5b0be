"""The fixed shape of the virtual hardware, and what of the host it is wired to.

States saved from a running vm fit only a machine of the same shape, so these numbers change only together with the
machine type; ``docs/decisions/0002-machine-layout.md`` argues them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, StrEnum
from pathlib import Path

from appcat.model.port import PortForward
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


def nic_port(slot: int) -> str:
    """The root port of the network card with this number: from the last one down, since disks fill from the first."""
    return f"hot{HOTPLUG_PORTS - 1 - slot}"


def pinned_machine(arch: Arch) -> Machine:
    """The machine type that new vms get, whatever newer one the installed QEMU has."""
    return Machine(arch, MACHINE_TYPES[arch])


@dataclass(frozen=True)
class Boot:
    """What a machine starts from: an uncompressed kernel, its initial file system, the kernel's arguments."""

    kernel: Path
    initramfs: Path
    arguments: str


class Purpose(Enum):
    """What one run of a machine is for.

    ``SOLO`` lives its own life: host ports lead into it and it gives unused memory back. The others have to do with a
    base, and so have neither: a ``FOUNT`` is powered on to be frozen, a ``CLONE`` begins in a saved state, a
    ``RECEIVER`` takes over another's state only to save it, and never runs.
    """

    SOLO = "solo"
    FOUNT = "fount"
    CLONE = "clone"
    RECEIVER = "receiver"

    @property
    def incoming(self) -> bool:
        """Whether it waits for a state instead of powering on."""
        return self in (Purpose.CLONE, Purpose.RECEIVER)


class Backend(StrEnum):
    """What joins the cards of vms on one network: bridges of the Linux kernel, or appcat's own hub."""

    BRIDGE = "bridge"
    HUB = "hub"


@dataclass(frozen=True)
class TapPort:
    """A port of a bridge: the descriptor of a tap device that QEMU inherits."""

    descriptor: int


@dataclass(frozen=True)
class HubPort:
    """A port of appcat's own hub: the socket that QEMU binds, and the hub's that it sends to. ``mtu`` in bytes."""

    local: Path
    hub: Path
    mtu: int


SwitchPort = TapPort | HubPort


@dataclass(frozen=True)
class Wiring:
    """Host paths that one run of a machine is connected to. ``disks`` and ``ports`` are in the order of the vm's own
    disks and networks. ``forwards`` are the places on the host that lead into it from the start. Not ``internet``: its
    user-mode network leads nowhere but there.

    ``memory`` is the base's file, which a clone maps copy-on-write and others write to; None is memory without a name.
    ``plugged`` names the root port of each disk that was plugged into the source while it ran.
    """

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
    purpose: Purpose = Purpose.SOLO
    memory: Path | None = None
    plugged: dict[str, str] = field(default_factory=dict)
    forwards: tuple[PortForward, ...] = ()
    ports: tuple[SwitchPort, ...] = ()
    internet: bool = True
