"""What every service is given: the paths, the stores, and where to report progress."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from appcat.model.host import Host
from appcat.model.vm import Arch
from appcat.qemu import probe
from appcat.settings import Settings
from appcat.store.layout import Layout
from appcat.store.vms import VmStore

# Step in words, how much is done, how much there is in all (0 when unknown).
Progress = Callable[[str, int, int], None]


def silent(_step: str, _done: int, _total: int) -> None:
    """Progress nobody wants to see."""


@dataclass(frozen=True)
class Context:
    """Passed to every service function; holds no state of its own but the probe's answer."""

    settings: Settings
    progress: Progress = silent

    @functools.cached_property
    def layout(self) -> Layout:
        """Where everything is."""
        return Layout(self.settings)

    @functools.cached_property
    def store(self) -> VmStore:
        """The inventory."""
        return VmStore(self.layout)

    @property
    def arch(self) -> Arch:
        """The architecture of this host and so of its guests."""
        return probe.architecture()

    @functools.cached_property
    def host(self) -> Host:
        """What this computer can do; probing may take a few seconds the first time after a boot."""
        return probe.host(self.layout.probe, self.settings.accelerator)


def now() -> str:
    """This moment in RFC 3339 UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
