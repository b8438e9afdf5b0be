"""What every service is given: the paths, the stores, and where to report progress."""

from __future__ import annotations

import dataclasses
import functools
import getpass
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from appcat.checks import Check, unchecked
from appcat.model.config import parse_accelerator
from appcat.model.host import Host
from appcat.model.vm import Arch
from appcat.qemu import probe
from appcat.settings import Settings
from appcat.store.layout import Layout
from appcat.store.networks import NetworkStore
from appcat.store.vms import VmStore

# Step in words, how much is done, how much there is in all (0 when unknown).
Progress = Callable[[str, int, int], None]


def silent(_step: str, _done: int, _total: int) -> None:
    """Progress nobody wants to see."""


@dataclass(frozen=True)
class Context:
    """Passed to every service function; holds no state of its own but the probe's answer.

    ``check`` is called in every loop that waits: it raises Cancelled when the work was called off (see
    ``services.operations``). ``operation`` is the id of the operation that the work is part of, ``origin`` who works
    here: cli, daemon or keeper.
    """

    settings: Settings
    progress: Progress = silent
    check: Check = unchecked
    operation: str = ""
    origin: str = "cli"

    def but(self, **changes: Any) -> Context:
        """The same with other fields; what was found out already is not asked again."""
        changed = dataclasses.replace(self, **changes)
        if changed.settings == self.settings:
            vars(changed).update({key: value for key, value in vars(self).items() if key in _FOUND_OUT})
        return changed

    def undisturbed(self) -> Context:
        """The same for tidying up: it goes on to its end, although the work was called off."""
        return self.but(check=unchecked, progress=silent)

    @functools.cached_property
    def layout(self) -> Layout:
        """Where everything is."""
        return Layout(self.settings)

    @functools.cached_property
    def store(self) -> VmStore:
        """The inventory."""
        return VmStore(self.layout)

    @functools.cached_property
    def networks(self) -> NetworkStore:
        """The private networks."""
        return NetworkStore(self.layout)

    @property
    def arch(self) -> Arch:
        """The architecture of this host and so of its guests."""
        return probe.architecture()

    @functools.cached_property
    def host(self) -> Host:
        """What this computer can do; probing may take a few seconds the first time after a boot."""
        from appcat.services import config

        chosen = self.settings.accelerator or config.value_of(self, "accelerator", parse_accelerator, None)
        return probe.host(self.layout.probe, chosen)


_FOUND_OUT = {name for name, value in vars(Context).items() if isinstance(value, functools.cached_property)}


def user_name() -> str:
    """Who runs this, for ``owner`` of what is made."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def now() -> str:
    """This moment in RFC 3339 UTC, to the second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
