"""What an appcat can do, wherever it is: in this process (``app.App``) or behind a daemon's door (``client.Client``).

The command line, the daemon's routes and the scenario tests are written against this. Each method has the name of its
service, and so of its command and its route. Results are the shapes of ``model.shapes``: what ``--json`` prints and the
API answers. Errors are ``AppcatError`` with the same codes on both sides.

None for a time to wait is the home's default (``appcat config``). A bool tells whether anything changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from appcat.guest.remote import Streams, Terminal
    from appcat.guest.ssh import Way
    from appcat.model.network import Joining
    from appcat.model.operation import OperationState
    from appcat.model.port import PortForward
    from appcat.model.shapes import (
        AttachmentInfo,
        CheckInfo,
        CloneInfo,
        CopyInfo,
        DiskInfo,
        EventInfo,
        ImageInfo,
        NetworkDetails,
        NetworkInfo,
        OperationInfo,
        PortInfo,
        RemovedInfo,
        SettingInfo,
        StatsInfo,
        TemplateInfo,
        VmDetails,
        VmInfo,
    )
    from appcat.services.clone import CloneRequest
    from appcat.services.console import Ending, Ends
    from appcat.services.copy import Place
    from appcat.services.create import CreateRequest
    from appcat.services.edit import Changes
    from appcat.services.logs import Source
    from appcat.services.networks import NetworkRequest
    from appcat.services.wait import Until


class ConsoleLine(Protocol):
    """The serial line of a vm, held by us alone."""

    def join(self, ends: Ends) -> Ending:
        """Join it to ``ends`` until the key, the end of input, or that of the vm; raises QemuError, NobodyReads."""
        ...


class Looking(Protocol):
    """What changes nothing."""

    def names(self) -> list[str]:
        """The names of all vms: cheap, for a shell's completion."""
        ...

    def list_vms(self, filters: Sequence[str] = ()) -> list[VmInfo]:
        """Every vm that ``filters`` (``KEY=VALUE`` texts) leave, by name; raises InvalidInput."""
        ...

    def show(self, name: str) -> VmDetails:
        """All about one vm; raises NotFound, InvalidInput."""
        ...

    def stats(self, names: Sequence[str] | None = None, interval: float = 0.5) -> StatsInfo:
        """Usage of all vms, or of ``names``, measured over ``interval`` seconds; raises NotFound."""
        ...

    def wait(self, name: str, until: Until, timeout: float) -> None:
        """Return as soon as the vm is in the state; raises DeadlineExceeded, NotFound, WrongState."""
        ...

    def logs(
        self,
        name: str,
        source: Source,
        *,
        tail: int | None = None,
        follow: bool = False,
        lost: Callable[[], None] = ...,
    ) -> Iterator[bytes]:
        """The log in pieces as they come (``services.logs``)."""
        ...


class Power(Protocol):
    """Whether a vm runs."""

    def start(self, name: str, *, ready_within: float | None = None, wait: bool = True) -> bool:
        """Start a vm and ``wait`` until its guest agent answers, ``ready_within`` seconds at most."""
        ...

    def stop(self, name: str, *, timeout: float | None = None) -> bool:
        """Ask the guest to power off, and wait for it, ``timeout`` seconds at most."""
        ...

    def restart(self, name: str, *, force: bool = False, timeout: float | None = None, wait: bool = True) -> bool:
        """Stop, ``force`` by cutting the power, and start."""
        ...

    def pause(self, name: str) -> bool:
        """Halt the processors."""
        ...

    def unpause(self, name: str) -> bool:
        """Let them go on."""
        ...

    def kill(self, name: str) -> bool:
        """End QEMU at once."""
        ...


class Changing(Protocol):
    """What vms there are, and what they are."""

    def create(self, request: CreateRequest) -> VmInfo:
        """Make a vm and leave it powered off."""
        ...

    def run(
        self,
        request: CreateRequest,
        *,
        ready_within: float | None = None,
        instant: bool = False,
        remove: bool = False,
    ) -> VmInfo:
        """Create and start; ``remove`` deletes it again if it does not start."""
        ...

    def edit(self, name: str, changes: Changes) -> VmInfo:
        """Change processors, memory, restart policy, autostart; make disks larger."""
        ...

    def label(self, name: str, add: Mapping[str, str], remove: Sequence[str] = ()) -> dict[str, str]:
        """Set labels and take others away; returns all that are left."""
        ...

    def rename(self, name: str, new: str) -> VmInfo:
        """Give a stopped vm another name."""
        ...

    def delete(self, name: str, *, force: bool = False) -> None:
        """Remove a vm with all its data; ``force`` also a running or a broken one."""
        ...

    def clone(self, request: CloneRequest, *, verify: bool = False) -> CloneInfo:
        """Make clones; ``failed`` tells of those that could not be made."""
        ...

    def clone_set(
        self, pairs: Sequence[tuple[str, str]], *, fork: bool = False, networks: Mapping[str, str] | None = None
    ) -> list[CloneInfo]:
        """Clones of several running vms, all of one instant; ``pairs`` of source and name.

        ``networks`` says for networks of the sources which ones the clones are on instead.
        """
        ...

    def flatten(self, name: str) -> bool:
        """Make a vm independent of what it was cloned from."""
        ...

    def list_ports(self, name: str) -> list[PortInfo]:
        """Its port forwards, the one for SSH first."""
        ...

    def add_port(self, name: str, forward: PortForward) -> bool:
        """Forward a host port."""
        ...

    def remove_port(self, name: str, forward: PortForward) -> None:
        """Take a forward away."""
        ...

    def list_disks(self, name: str) -> list[DiskInfo]:
        """Its disks."""
        ...

    def add_disk(self, name: str, disk: str, size: int) -> list[DiskInfo]:
        """Make an empty disk of ``size`` bytes; returns all disks, as the two below."""
        ...

    def remove_disk(self, name: str, disk: str) -> list[DiskInfo]:
        """Remove a disk with its data."""
        ...

    def grow_disk(self, name: str, disk: str, size: int) -> list[DiskInfo]:
        """Make a disk ``size`` bytes large."""
        ...


class Networks(Protocol):
    """Private networks, and who is on them."""

    def list_networks(self) -> list[NetworkInfo]:
        """Every network, by name; ``default`` is always there."""
        ...

    def show_network(self, name: str) -> NetworkDetails:
        """All about one network; raises NotFound."""
        ...

    def create_network(self, request: NetworkRequest) -> NetworkInfo:
        """Make a network; raises InvalidInput, AlreadyExists, Conflict for a subnet that overlaps another."""
        ...

    def delete_network(self, name: str) -> None:
        """Remove a network; raises NotFound, Conflict while vms are on it."""
        ...

    def list_attachments(self, name: str) -> list[AttachmentInfo]:
        """The networks that a vm is on."""
        ...

    def attach_network(self, name: str, joining: Joining) -> list[AttachmentInfo]:
        """Put a vm on a network; returns all that it is on then, as the one below."""
        ...

    def detach_network(self, name: str, network: str) -> list[AttachmentInfo]:
        """Take a vm off a network."""
        ...


class Inside(Protocol):
    """What happens in a guest."""

    def execute(
        self,
        name: str,
        command: Sequence[str],
        streams: Streams,
        *,
        timeout: float | None = None,
        terminal: Terminal | None = None,
    ) -> int:
        """Run a command joined to ``streams``; its exit status (``services.execute``)."""
        ...

    def copy(self, sources: Sequence[Place], target: Place) -> CopyInfo:
        """Copy files between this computer and a guest (``services.copy``)."""
        ...

    def console(self, name: str) -> AbstractContextManager[ConsoleLine]:
        """The serial line, held while the block runs."""
        ...

    def ssh_command(self, name: str, command: Sequence[str] = ()) -> list[str]:
        """The ``ssh`` command line that logs in from here."""
        ...

    def ssh_config(self, name: str) -> str:
        """The ssh_config(5) block that makes ``ssh NAME`` work from here."""
        ...

    def ssh_way(self, name: str) -> Way:
        """How ssh reaches the guest from here, running or not."""
        ...

    def tunnel(self, name: str, port: int) -> socket.socket:
        """A connection to TCP port ``port`` of the guest's own loopback address."""
        ...


class Home(Protocol):
    """What is not about one vm."""

    def list_templates(self) -> list[TemplateInfo]:
        """Every template there is a recipe for."""
        ...

    def build(self, name: str) -> ImageInfo:
        """Build a template's image from the packages of today."""
        ...

    def show_template(self, name: str) -> TemplateInfo:
        """One template; raises NotFound."""
        ...

    def create_template(self, vm: str, name: str) -> ImageInfo:
        """Make a template of a vm as it is now."""
        ...

    def delete_template(self, name: str) -> list[RemovedInfo]:
        """Remove a template, or the image of one that came with appcat; what went. Raises Conflict in use."""
        ...

    def prune_templates(self) -> list[RemovedInfo]:
        """Remove images and packages that nothing needs; what went."""
        ...

    def list_settings(self) -> list[SettingInfo]:
        """All defaults, set or not; passwords in them are hidden."""
        ...

    def get_setting(self, key: str) -> SettingInfo:
        """One default, as it was set."""
        ...

    def set_setting(self, key: str, value: str) -> SettingInfo:
        """Remember a default."""
        ...

    def unset_setting(self, key: str) -> SettingInfo:
        """Forget a default."""
        ...

    def doctor(self) -> list[CheckInfo]:
        """What the host has and lacks."""
        ...

    def bundle(self, target: Path) -> list[str]:
        """Write a report for a bug report to ``target``, a new file here; the names of the files in it."""
        ...


class Happening(Protocol):
    """What has happened, and what is happening."""

    def list_events(self, after: int = 0, limit: int = 1000) -> list[EventInfo]:
        """The first events after the id ``after`` (0: all that are kept); raises Conflict ``events-lost``."""
        ...

    def last_events(self, count: int) -> list[EventInfo]:
        """The newest events, the oldest of them first."""
        ...

    def follow_events(self, after: int | None = None) -> Iterator[EventInfo]:
        """Events as they happen, after that id or from now on, for ever; raises Conflict ``events-lost``."""
        ...

    def list_operations(self, state: OperationState | None = None) -> list[OperationInfo]:
        """Operations, or those in one state, the oldest first."""
        ...

    def show_operation(self, identifier: str) -> OperationInfo:
        """One operation; raises NotFound."""
        ...

    def wait_operation(self, identifier: str, timeout: float) -> OperationInfo:
        """One operation, once it is over; raises DeadlineExceeded after ``timeout`` seconds, NotFound."""
        ...

    def cancel(self, identifier: str) -> OperationInfo:
        """Ask an operation to stop; raises NotFound, WrongState when it has ended."""
        ...


class Engine(Looking, Power, Changing, Networks, Inside, Home, Happening, Protocol):
    """One home of vms."""
