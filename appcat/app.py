"""The composition root: from the environment to what every service is given, and the services as one ``Engine``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from appcat.services.context import Context, Progress, silent
from appcat.settings import Settings

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
    from appcat.services.console import Console
    from appcat.services.copy import Place
    from appcat.services.create import CreateRequest
    from appcat.services.edit import Changes
    from appcat.services.logs import Source
    from appcat.services.networks import NetworkRequest
    from appcat.services.wait import Until


def nobody_told() -> None:
    """Lines of a log were lost and nobody asked to be told."""


@dataclass(frozen=True)
class App:
    """One appcat: the context that services work in, and the ``engine.Engine`` over them, in this process.

    Services are imported where they are used: a command should load no more than it needs.
    """

    context: Context

    @classmethod
    def load(cls, progress: Progress = silent) -> App:
        """The app for this process's environment; touches no file."""
        return cls(Context(Settings.load(), progress))

    # --- looking

    def names(self) -> list[str]:
        """See ``Engine``; so for all methods below."""
        return self.context.store.names()

    def list_vms(self, filters: Sequence[str] = ()) -> list[VmInfo]:
        """Also starts the keeper where one is missing."""
        from appcat.services.describe import describe
        from appcat.services.filters import matches, parse_filters
        from appcat.services.keeping import ensure_keeper
        from appcat.services.listening import Listening
        from appcat.services.observe import list_vms

        wanted = parse_filters(list(filters))
        found = list_vms(self.context)
        ensure_keeper(self.context, found)
        table = Listening()
        return [describe(seen, table) for seen in found if matches(seen, wanted)]

    def show(self, name: str) -> VmDetails:
        """Also starts the keeper where it is missing."""
        from appcat.services.describe import describe_fully
        from appcat.services.keeping import ensure_keeper
        from appcat.services.observe import show

        seen = show(self.context, name)
        ensure_keeper(self.context, [seen])
        return describe_fully(self.context, seen)

    def stats(self, names: Sequence[str] | None = None, interval: float = 0.5) -> StatsInfo:
        """Takes ``interval`` seconds."""
        from appcat.services.describe import describe_usages
        from appcat.services.stats import stats, total

        usages = stats(self.context, None if names is None else list(names), interval)
        return describe_usages(usages, total(usages))

    def wait(self, name: str, until: Until, timeout: float) -> None:
        """Polls."""
        from appcat.services.wait import wait

        wait(self.context, name, until, timeout)

    def logs(
        self,
        name: str,
        source: Source,
        *,
        tail: int | None = None,
        follow: bool = False,
        lost: Callable[[], None] = nobody_told,
    ) -> Iterator[bytes]:
        """Read from the files."""
        from appcat.services.logs import logs

        return logs(self.context, name, source, tail=tail, follow=follow, lost=lost)

    # --- power

    def start(self, name: str, *, ready_within: float | None = None, wait: bool = True) -> bool:
        """As the service."""
        from appcat.services.patience import start_wait
        from appcat.services.start import start

        return not start(
            self.context, name, ready_within=start_wait(self.context, ready_within) if wait else None
        ).already

    def stop(self, name: str, *, timeout: float | None = None) -> bool:
        """As the service."""
        from appcat.services.patience import stop_wait
        from appcat.services.stop import stop

        return stop(self.context, name, timeout=stop_wait(self.context, timeout))

    def restart(self, name: str, *, force: bool = False, timeout: float | None = None, wait: bool = True) -> bool:
        """As the service."""
        from appcat.services.patience import start_wait, stop_wait
        from appcat.services.restart import restart

        ready = start_wait(self.context, None) if wait else None
        return restart(self.context, name, force=force, timeout=stop_wait(self.context, timeout), ready_within=ready)

    def pause(self, name: str) -> bool:
        """As the service."""
        from appcat.services.pause import pause

        return pause(self.context, name)

    def unpause(self, name: str) -> bool:
        """As the service."""
        from appcat.services.pause import unpause

        return unpause(self.context, name)

    def kill(self, name: str) -> bool:
        """As the service."""
        from appcat.services.stop import kill

        return kill(self.context, name)

    # --- changing

    def create(self, request: CreateRequest) -> VmInfo:
        """As the service."""
        from appcat.services.create import create

        create(self.context, request)
        return self._info(request.name)

    def run(
        self,
        request: CreateRequest,
        *,
        ready_within: float | None = None,
        instant: bool = False,
        remove: bool = False,
    ) -> VmInfo:
        """As the service."""
        from appcat.services.patience import start_wait
        from appcat.services.run import run

        ready = start_wait(self.context, ready_within)
        run(self.context, request, ready_within=ready, remove=remove, instant=instant)
        return self._info(request.name)

    def edit(self, name: str, changes: Changes) -> VmInfo:
        """As the service."""
        from appcat.services.edit import edit

        edit(self.context, name, changes)
        return self._info(name)

    def label(self, name: str, add: Mapping[str, str], remove: Sequence[str] = ()) -> dict[str, str]:
        """As the service."""
        from appcat.services.edit import label

        vm = label(self.context, name, add, remove) if add or remove else self.context.store.load(name)
        return vm.labels

    def rename(self, name: str, new: str) -> VmInfo:
        """As the service."""
        from appcat.services.edit import rename

        rename(self.context, name, new)
        return self._info(new)

    def delete(self, name: str, *, force: bool = False) -> None:
        """As the service."""
        from appcat.services.delete import delete

        delete(self.context, name, force=force)

    def clone(self, request: CloneRequest, *, verify: bool = False) -> CloneInfo:
        """``verify`` is for instant clones; raises InvalidInput for others before anything is made."""
        from appcat.services.clone import clone
        from appcat.services.describe import describe_clones
        from appcat.services.verify import check_kind, verify_clones

        if verify:
            check_kind(request.kind)
        done = clone(self.context, request)
        return describe_clones(done, verify_clones(self.context, request, done) if verify else ())

    def clone_set(
        self, pairs: Sequence[tuple[str, str]], *, fork: bool = False, networks: Mapping[str, str] | None = None
    ) -> list[CloneInfo]:
        """As the service."""
        from appcat.services.clone import clone_set
        from appcat.services.describe import describe_clones

        return [describe_clones(done) for done in clone_set(self.context, pairs, fork=fork, networks=networks)]

    def flatten(self, name: str) -> bool:
        """As the service."""
        from appcat.services.flatten import flatten

        return flatten(self.context, name)

    def list_ports(self, name: str) -> list[PortInfo]:
        """As the service."""
        from appcat.services.describe import describe_port
        from appcat.services.ports import list_ports

        return [describe_port(place) for place in list_ports(self.context, name)]

    def add_port(self, name: str, forward: PortForward) -> bool:
        """As the service."""
        from appcat.services.ports import add_port

        return add_port(self.context, name, forward)

    def remove_port(self, name: str, forward: PortForward) -> None:
        """As the service."""
        from appcat.services.ports import remove_port

        remove_port(self.context, name, forward)

    def list_disks(self, name: str) -> list[DiskInfo]:
        """As the service."""
        from appcat.services.describe import describe_disk
        from appcat.services.disks import list_disks

        return [describe_disk(use) for use in list_disks(self.context, name)]

    def add_disk(self, name: str, disk: str, size: int) -> list[DiskInfo]:
        """As the service."""
        from appcat.services.disks import add_disk

        add_disk(self.context, name, disk, size)
        return self.list_disks(name)

    def remove_disk(self, name: str, disk: str) -> list[DiskInfo]:
        """As the service."""
        from appcat.services.disks import remove_disk

        remove_disk(self.context, name, disk)
        return self.list_disks(name)

    def grow_disk(self, name: str, disk: str, size: int) -> list[DiskInfo]:
        """As the service."""
        from appcat.services.disks import grow_disk

        grow_disk(self.context, name, disk, size)
        return self.list_disks(name)

    # --- networks

    def list_networks(self) -> list[NetworkInfo]:
        """As the service."""
        from appcat.services.describe_networks import describe_network
        from appcat.services.networks import list_networks

        return [describe_network(seen) for seen in list_networks(self.context)]

    def show_network(self, name: str) -> NetworkDetails:
        """As the service."""
        from appcat.services.describe_networks import describe_network_fully
        from appcat.services.show_network import show_network

        return describe_network_fully(show_network(self.context, name))

    def create_network(self, request: NetworkRequest) -> NetworkInfo:
        """As the service."""
        from appcat.services.describe_networks import describe_network
        from appcat.services.networks import create_network, find_network

        create_network(self.context, request)
        return describe_network(find_network(self.context, request.name))

    def delete_network(self, name: str) -> None:
        """As the service."""
        from appcat.services.networks import delete_network

        delete_network(self.context, name)

    def list_attachments(self, name: str) -> list[AttachmentInfo]:
        """From the vm's own file."""
        from appcat.services.describe import describe_attachments

        return describe_attachments(self.context.store.load(name))

    def attach_network(self, name: str, joining: Joining) -> list[AttachmentInfo]:
        """As the service."""
        from appcat.services.attach import attach_network
        from appcat.services.describe import describe_attachments

        return describe_attachments(attach_network(self.context, name, joining))

    def detach_network(self, name: str, network: str) -> list[AttachmentInfo]:
        """As the service."""
        from appcat.services.attach import detach_network
        from appcat.services.describe import describe_attachments

        return describe_attachments(detach_network(self.context, name, network))

    # --- inside

    def execute(
        self,
        name: str,
        command: Sequence[str],
        streams: Streams,
        *,
        timeout: float | None = None,
        terminal: Terminal | None = None,
    ) -> int:
        """As the service."""
        from appcat.services.execute import execute

        return execute(self.context, name, command, streams, timeout=timeout, terminal=terminal)

    def copy(self, sources: Sequence[Place], target: Place) -> CopyInfo:
        """As the service."""
        from appcat.services.copy import copy
        from appcat.services.describe import describe_copy

        return describe_copy(copy(self.context, sources, target))

    def console(self, name: str) -> contextlib.AbstractContextManager[Console]:
        """As the service."""
        from appcat.services.console import console

        return console(self.context, name)

    def ssh_command(self, name: str, command: Sequence[str] = ()) -> list[str]:
        """As the service."""
        from appcat.services.execute import ssh_command

        return ssh_command(self.context, name, command)

    def ssh_config(self, name: str) -> str:
        """As the service."""
        from appcat.services.ssh_config import ssh_config

        return ssh_config(self.context, name)

    def ssh_way(self, name: str) -> Way:
        """As the service."""
        from appcat.services.ssh_config import ssh_way

        return ssh_way(self.context, name)

    def tunnel(self, name: str, port: int) -> socket.socket:
        """As the service."""
        from appcat.services.tunnel import tunnel

        return tunnel(self.context, name, port)

    # --- the home

    def list_templates(self) -> list[TemplateInfo]:
        """As the service."""
        from appcat.services.describe import describe_template
        from appcat.services.templates import list_templates

        return [describe_template(known) for known in list_templates(self.context)]

    def build(self, name: str) -> ImageInfo:
        """As the service."""
        from appcat.services.describe import describe_image
        from appcat.services.templates import build

        return describe_image(build(self.context, name))

    def add_template(self, directory: Path) -> str:
        """As the service; of this computer alone."""
        from appcat.services.templates import add

        return add(self.context, directory)

    def export_template(self, name: str, target: Path) -> int:
        """As the service; of this computer alone."""
        from appcat.services.template_files import export_template

        return export_template(self.context, name, target)

    def export_vm(self, name: str, target: Path) -> int:
        """As the service; of this computer alone."""
        from appcat.services.template_files import export_vm

        return export_vm(self.context, name, target)

    def import_template(self, source: Path, name: str = "") -> ImageInfo:
        """As the service; of this computer alone."""
        from appcat.services.describe import describe_image
        from appcat.services.template_files import import_template

        return describe_image(import_template(self.context, source, name))

    def show_template(self, name: str) -> TemplateInfo:
        """As the service."""
        from appcat.services.describe import describe_template
        from appcat.services.templates import show

        return describe_template(show(self.context, name))

    def create_template(self, vm: str, name: str) -> ImageInfo:
        """As the service."""
        from appcat.services.describe import describe_image
        from appcat.services.template_files import create

        return describe_image(create(self.context, vm, name))

    def delete_template(self, name: str) -> list[RemovedInfo]:
        """As the service."""
        from appcat.services.describe import describe_removed
        from appcat.services.template_garbage import delete

        return [describe_removed(removed) for removed in delete(self.context, name)]

    def prune_templates(self) -> list[RemovedInfo]:
        """As the service."""
        from appcat.services.describe import describe_removed
        from appcat.services.template_garbage import prune

        return [describe_removed(removed) for removed in prune(self.context)]

    def list_settings(self) -> list[SettingInfo]:
        """As the service."""
        from appcat.services.config import list_settings
        from appcat.services.describe import describe_setting

        return [describe_setting(setting) for setting in list_settings(self.context)]

    def get_setting(self, key: str) -> SettingInfo:
        """As the service."""
        from appcat.services.config import get
        from appcat.services.describe import describe_setting

        return describe_setting(get(self.context, key), whole=True)

    def set_setting(self, key: str, value: str) -> SettingInfo:
        """As the service."""
        from appcat.services.config import get, set_
        from appcat.services.describe import describe_setting

        set_(self.context, key, value)
        return describe_setting(get(self.context, key))

    def unset_setting(self, key: str) -> SettingInfo:
        """As the service."""
        from appcat.services.config import get, unset
        from appcat.services.describe import describe_setting

        unset(self.context, key)
        return describe_setting(get(self.context, key))

    def doctor(self) -> list[CheckInfo]:
        """As the service."""
        from appcat.services.describe import describe_check
        from appcat.services.doctor import examine

        return [describe_check(check) for check in examine(self.context)]

    def bundle(self, target: Path) -> list[str]:
        """As the service."""
        from appcat.services.bundle import write_bundle

        return write_bundle(self.context, target)

    # --- what has happened, and what is happening

    def list_events(self, after: int = 0, limit: int = 1000) -> list[EventInfo]:
        """As the service."""
        from appcat.services.describe import describe_event
        from appcat.services.events import list_events

        return [describe_event(event) for event in list_events(self.context, after, limit)]

    def last_events(self, count: int) -> list[EventInfo]:
        """As the service."""
        from appcat.services.describe import describe_event
        from appcat.services.events import last_events

        return [describe_event(event) for event in last_events(self.context, count)]

    def follow_events(self, after: int | None = None) -> Iterator[EventInfo]:
        """Polls."""
        from appcat.services.describe import describe_event
        from appcat.services.events import follow, last_id

        begun = last_id(self.context) if after is None else after
        return (describe_event(event) for event in follow(self.context, begun))

    def list_operations(self, state: OperationState | None = None) -> list[OperationInfo]:
        """As the service."""
        from appcat.services.describe import describe_operation
        from appcat.services.operations import list_operations

        return [describe_operation(found) for found in list_operations(self.context, state)]

    def show_operation(self, identifier: str) -> OperationInfo:
        """As the service."""
        from appcat.services.describe import describe_operation
        from appcat.services.operations import show_operation

        return describe_operation(show_operation(self.context, identifier))

    def wait_operation(self, identifier: str, timeout: float) -> OperationInfo:
        """Polls."""
        from appcat.services.describe import describe_operation
        from appcat.services.operations import wait_operation

        return describe_operation(wait_operation(self.context, identifier, timeout))

    def cancel(self, identifier: str) -> OperationInfo:
        """As the service."""
        from appcat.services.describe import describe_operation
        from appcat.services.operations import cancel

        return describe_operation(cancel(self.context, identifier))

    def _info(self, name: str) -> VmInfo:
        from appcat.services.describe import describe
        from appcat.services.observe import show

        return describe(show(self.context, name))


if TYPE_CHECKING:
    from appcat.engine import Engine

    def _is_engine(app: App) -> Engine:
        return app
