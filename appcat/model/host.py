"""What this host can do: found by probing, passed around as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from appcat.model.vm import Arch


class Accelerator(StrEnum):
    """How guest instructions are executed."""

    KVM = "kvm"
    HVF = "hvf"
    TCG = "tcg"


class System(StrEnum):
    """Host operating systems appcat knows."""

    LINUX = "linux"
    MACOS = "macos"


@dataclass(frozen=True)
class Verdict:
    """What came of trying one accelerator; ``seconds`` from spawn to the payload's end when it worked."""

    accelerator: Accelerator
    works: bool
    reason: str
    seconds: float | None = None


@dataclass(frozen=True)
class Qemu:
    """An installed QEMU."""

    binary: str
    version: str


@dataclass(frozen=True)
class Host:
    """All that the command line builder needs to know of this computer."""

    system: System
    arch: Arch
    qemu: Qemu
    accelerator: Accelerator
    verdicts: tuple[Verdict, ...] = ()


def host_system(platform: str) -> System:
    """The system for ``sys.platform``."""
    return System.MACOS if platform == "darwin" else System.LINUX


def host_arch(machine: str) -> Arch:
    """The architecture for ``platform.machine()``; raises ValueError for one appcat has no recipe for."""
    return Arch.AARCH64 if machine in ("arm64", "aarch64") else Arch(machine)
