"""``Client``: an appcat behind a daemon, as an ``engine.Engine``."""

from __future__ import annotations

import collections
import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from appcat.client.http import Http, path
from appcat.client.operations import RUNNING, WAIT, follow
from appcat.client.transport import dialer
from appcat.errors import Conflict, DeadlineExceeded
from appcat.model.codec import encode
from appcat.model.name import check_name
from appcat.model.port import PortForward
from appcat.model.remote import LOCAL, Remote, parse_fingerprint
from appcat.services import contexts
from appcat.services.context import Progress, silent
from appcat.services.logs import Source, nobody_told
from appcat.settings import Settings
from appcat.store.layout import Layout

if TYPE_CHECKING:
    from appcat.client.console import RemoteConsole
    from appcat.guest.remote import Streams, Terminal
    from appcat.guest.ssh import Way
    from appcat.model.network import Joining
    from appcat.model.operation import OperationState
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
    from appcat.services.copy import Place, Runner
    from appcat.services.create import CreateRequest
    from appcat.services.edit import Changes
    from appcat.services.networks import NetworkRequest
    from appcat.services.wait import Until

OWN_DAEMON = "unix://"
LOST = "lost"
LONGEST_WORDS = 4096


class Client:
    """One appcat, through its daemon's door. Safe to be used by several threads; ends as a context manager.

    Methods are those of ``engine.Engine``: results are ``model.shapes``, errors ``AppcatError`` with the same codes as
    in process, and ``Unavailable`` when the daemon cannot be reached.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str = "",
        token_file: str | Path = "",
        fingerprint: str = "",
        ca_file: str | Path = "",
        progress: Progress = silent,
    ) -> None:
        """The appcat at ``url``: ``unix:///PATH``, ``unix://`` (this home's daemon), ``https://``, ``ssh://``.

        Without one, what the environment and ``appcat context use`` say (``services.contexts``), and where that is the
        appcat of this computer, its daemon. No connection is made yet. Raises InvalidInput, NotFound, Broken.
        """
        layout = Layout(Settings.load())
        name, remote = "", None
        if url is None:
            name, remote = contexts.chosen(layout)
            remote = remote or Remote(OWN_DAEMON)
        else:
            known = parse_fingerprint(fingerprint) if fingerprint else ""
            remote = Remote(url, token, str(token_file), known, str(ca_file))
        self._begin(layout, "" if name == LOCAL else name, remote, progress)

    @classmethod
    def of(cls, layout: Layout, context: str, remote: Remote, progress: Progress = silent) -> Client:
        """The appcat at ``remote``, which is called ``context`` if it has a name."""
        client = cls.__new__(cls)
        client._begin(layout, context, remote, progress)
        return client

    def _begin(self, layout: Layout, context: str, remote: Remote, progress: Progress) -> None:
        self._layout, self._context, self._remote, self._progress = layout, context, remote, progress
        self._http = Http(dialer(remote, layout.daemon_socket), contexts.token_of(remote))

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._http.close()

    # --- looking

    def names(self) -> list[str]:
        """See ``Engine``; so for all methods below."""
        return [vm["name"] for vm in self.list_vms()]

    def list_vms(self, filters: Sequence[str] = ()) -> list[VmInfo]:
        """One request."""
        answer = self._http.call("GET", path("vms"), query={"filter": list(filters)})
        return cast("list[VmInfo]", answer["vms"])

    def show(self, name: str) -> VmDetails:
        """One request."""
        return cast("VmDetails", self._http.call("GET", _vm(name)))

    def stats(self, names: Sequence[str] | None = None, interval: float = 0.5) -> StatsInfo:
        """One request."""
        wanted = None if names is None else [check_name(name) for name in names]
        return cast("StatsInfo", self._http.call("GET", path("stats"), query={"name": wanted, "interval": interval}))

    def wait(self, name: str, until: Until, timeout: float) -> None:
        """An operation."""
        self._follow(_vm(name, "wait"), {"until": str(until), "timeout": timeout})

    def logs(
        self,
        name: str,
        source: Source = Source.CONSOLE,
        *,
        tail: int | None = None,
        follow: bool = False,
        lost: Callable[[], None] = nobody_told,
    ) -> Iterator[bytes]:
        """As it comes; ``lost`` is never called: the daemon does not tell."""
        del lost
        query = {"source": str(source), "tail": tail, "follow": follow or None}
        return self._http.stream(_vm(name, "logs"), query=query)

    # --- power

    def start(self, name: str, *, ready_within: float | None = None, wait: bool = True) -> bool:
        """An operation."""
        return self._changed(_vm(name, "start"), {"ready_within": ready_within, "wait": wait})

    def stop(self, name: str, *, timeout: float | None = None) -> bool:
        """An operation."""
        return self._changed(_vm(name, "stop"), {"timeout": timeout})

    def restart(self, name: str, *, force: bool = False, timeout: float | None = None, wait: bool = True) -> bool:
        """An operation."""
        return self._changed(_vm(name, "restart"), {"force": force, "timeout": timeout, "wait": wait})

    def pause(self, name: str) -> bool:
        """One request."""
        return bool(self._http.call("POST", _vm(name, "pause"), body={})["changed"])

    def unpause(self, name: str) -> bool:
        """One request."""
        return bool(self._http.call("POST", _vm(name, "unpause"), body={})["changed"])

    def kill(self, name: str) -> bool:
        """One request."""
        return bool(self._http.call("POST", _vm(name, "kill"), body={})["changed"])

    # --- changing

    def create(self, request: CreateRequest) -> VmInfo:
        """An operation."""
        return cast("VmInfo", self._follow(path("vms"), _create(request))["vm"])

    def run(
        self,
        request: CreateRequest,
        *,
        ready_within: float | None = None,
        instant: bool = False,
        remove: bool = False,
    ) -> VmInfo:
        """An operation."""
        body = {**_create(request), "ready_within": ready_within, "instant": instant, "remove": remove}
        return cast("VmInfo", self._follow(path("run"), body)["vm"])

    def edit(self, name: str, changes: Changes) -> VmInfo:
        """One request."""
        disks = [{"name": disk, "size": size} for disk, size in changes.disks]
        body = _given({**encode(changes), "disks": disks or None})
        return cast("VmInfo", self._http.call("PATCH", _vm(name), body=body))

    def label(self, name: str, add: Mapping[str, str], remove: Sequence[str] = ()) -> dict[str, str]:
        """One request."""
        if not add and not remove:
            return self.show(name).get("labels", {})
        answer = self._http.call("POST", _vm(name, "label"), body={"add": dict(add), "remove": list(remove)})
        return cast("dict[str, str]", answer["labels"])

    def rename(self, name: str, new: str) -> VmInfo:
        """One request."""
        return cast("VmInfo", self._http.call("POST", _vm(name, "rename"), body={"name": new}))

    def delete(self, name: str, *, force: bool = False) -> None:
        """One request."""
        self._http.call("DELETE", _vm(name), query={"force": force or None})

    def clone(self, request: CloneRequest, *, verify: bool = False) -> CloneInfo:
        """An operation."""
        body = {
            "names": list(request.names),
            "kind": encode(request.kind),
            "fork": request.fork,
            "networks": _joinings(request.networks),
            "verify": verify,
        }
        return cast("CloneInfo", self._follow(_vm(request.source, "clone"), body))

    def clone_set(
        self, pairs: Sequence[tuple[str, str]], *, fork: bool = False, networks: Mapping[str, str] | None = None
    ) -> list[CloneInfo]:
        """An operation."""
        named = [{"source": source, "name": name} for source, name in pairs]
        body = {"pairs": named, "fork": fork, "networks": None if networks is None else dict(networks)}
        return cast("list[CloneInfo]", self._follow(path("clone-set"), body)["clones"])

    def flatten(self, name: str) -> bool:
        """An operation."""
        return self._changed(_vm(name, "flatten"), {})

    def list_ports(self, name: str) -> list[PortInfo]:
        """One request."""
        return cast("list[PortInfo]", self._http.call("GET", _vm(name, "ports"))["ports"])

    def add_port(self, name: str, forward: PortForward) -> bool:
        """One request."""
        return bool(self._http.call("POST", _vm(name, "ports"), body=_port(forward))["changed"])

    def remove_port(self, name: str, forward: PortForward) -> None:
        """One request."""
        self._http.call("DELETE", _vm(name, "ports"), query=_port(forward))

    def list_disks(self, name: str) -> list[DiskInfo]:
        """One request; so for the three below."""
        return self._disks("GET", _vm(name, "disks"))

    def add_disk(self, name: str, disk: str, size: int) -> list[DiskInfo]:
        """See ``list_disks``."""
        return self._disks("POST", _vm(name, "disks"), {"name": disk, "size": size})

    def remove_disk(self, name: str, disk: str) -> list[DiskInfo]:
        """See ``list_disks``."""
        return self._disks("DELETE", _vm(name, "disks", _part(disk)))

    def grow_disk(self, name: str, disk: str, size: int) -> list[DiskInfo]:
        """See ``list_disks``."""
        return self._disks("POST", _vm(name, "disks", _part(disk), "grow"), {"size": size})

    # --- networks

    def list_networks(self) -> list[NetworkInfo]:
        """One request; so for those below."""
        return cast("list[NetworkInfo]", self._http.call("GET", path("networks"))["networks"])

    def show_network(self, name: str) -> NetworkDetails:
        """See ``list_networks``."""
        return cast("NetworkDetails", self._http.call("GET", path("networks", check_name(name))))

    def create_network(self, request: NetworkRequest) -> NetworkInfo:
        """See ``list_networks``."""
        return cast("NetworkInfo", self._http.call("POST", path("networks"), body=_given(encode(request))))

    def delete_network(self, name: str) -> None:
        """See ``list_networks``."""
        self._http.call("DELETE", path("networks", check_name(name)))

    def list_attachments(self, name: str) -> list[AttachmentInfo]:
        """See ``list_networks``."""
        return self._attachments("GET", _vm(name, "networks"))

    def attach_network(self, name: str, joining: Joining) -> list[AttachmentInfo]:
        """See ``list_networks``."""
        return self._attachments("POST", _vm(name, "networks"), encode(joining))

    def detach_network(self, name: str, network: str) -> list[AttachmentInfo]:
        """See ``list_networks``."""
        return self._attachments("DELETE", _vm(name, "networks", check_name(network)))

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
        """Over a WebSocket, as long as it takes."""
        from appcat.client.execute import execute

        return execute(self._http, check_name(name), command, streams, timeout=timeout, terminal=terminal)

    def output(self, name: str, *command: str, stdin: bytes = b"", timeout: float | None = None) -> str:
        """What a command in the guest prints; raises CommandError with its words when its status is not 0."""
        import shlex
        import tempfile

        from appcat.errors import CommandError
        from appcat.guest.remote import Streams

        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
            given.write(stdin)
            given.seek(0)
            status = self.execute(name, command, Streams(given, out, errors), timeout=timeout)
            out.seek(0)
            errors.seek(0)
            if status:
                words = errors.read(LONGEST_WORDS).decode(errors="replace").strip()
                raise CommandError(
                    f"{command[0]} in {name} ended with status {status}",
                    hint=f"try it by hand: appcat vm exec {name} -- {shlex.join(command)}",
                    details=words,
                )
            return out.read().decode(errors="replace")

    def copy(self, sources: Sequence[Place], target: Place) -> CopyInfo:
        """``services.copy`` on this computer; its commands in the guest go through ``execute``."""
        from appcat.services.copy import copy_files

        done = copy_files(self._reach, self._progress, sources, target)
        return {"files": done.files, "bytes": done.bytes, "skipped": list(done.skipped)}

    @contextlib.contextmanager
    def _reach(self, name: str) -> Iterator[Runner]:
        yield lambda command, streams, timeout: self.execute(name, command, streams, timeout=timeout)

    def console(self, name: str) -> contextlib.AbstractContextManager[RemoteConsole]:
        """Over a WebSocket."""
        from appcat.client.console import console

        return console(self._http, check_name(name))

    def ssh_command(self, name: str, command: Sequence[str] = ()) -> list[str]:
        """One request; the command line goes through ``appcat vm tunnel``."""
        from appcat.guest import ssh

        way = self.ssh_way(name)
        return ssh.command_line(way.target, way.key, way.known_hosts, command, proxy=way.proxy)

    def ssh_config(self, name: str) -> str:
        """One request."""
        from appcat.guest import ssh

        way = self.ssh_way(name)
        return ssh.config_block(way.target, way.key, way.known_hosts, proxy=way.proxy)

    def ssh_way(self, name: str) -> Way:
        """One request; what ssh reads is written to this home."""
        from appcat.client.ssh_access import access

        answer = self._http.call("GET", _vm(name, "ssh"))
        return access(self._layout, self._context, self._remote, name, answer)

    def tunnel(self, name: str, port: int) -> socket.socket:
        """Over a WebSocket."""
        from appcat.client.tunnel import tunnel

        return tunnel(self._http, check_name(name), port)

    # --- the home

    def list_templates(self) -> list[TemplateInfo]:
        """One request."""
        return cast("list[TemplateInfo]", self._http.call("GET", path("templates"))["templates"])

    def build(self, name: str) -> ImageInfo:
        """An operation."""
        return cast("ImageInfo", self._follow(path("templates", check_name(name), "build"), {})["image"])

    def show_template(self, name: str) -> TemplateInfo:
        """One request."""
        return cast("TemplateInfo", self._http.call("GET", path("templates", check_name(name))))

    def create_template(self, vm: str, name: str) -> ImageInfo:
        """An operation."""
        return cast("ImageInfo", self._follow(path("templates"), {"vm": vm, "name": name})["image"])

    def delete_template(self, name: str) -> list[RemovedInfo]:
        """One request."""
        answer = self._http.call("DELETE", path("templates", check_name(name)))
        return cast("list[RemovedInfo]", answer["removed"])

    def prune_templates(self) -> list[RemovedInfo]:
        """One request."""
        return cast("list[RemovedInfo]", self._http.call("POST", path("templates", "prune"), body={})["removed"])

    def list_settings(self) -> list[SettingInfo]:
        """One request."""
        return cast("list[SettingInfo]", self._http.call("GET", path("config"))["settings"])

    def get_setting(self, key: str) -> SettingInfo:
        """One request."""
        return cast("SettingInfo", self._http.call("GET", path("config", _part(key))))

    def set_setting(self, key: str, value: str) -> SettingInfo:
        """One request."""
        return cast("SettingInfo", self._http.call("PUT", path("config", _part(key)), body={"value": value}))

    def unset_setting(self, key: str) -> SettingInfo:
        """One request."""
        return cast("SettingInfo", self._http.call("DELETE", path("config", _part(key))))

    def doctor(self) -> list[CheckInfo]:
        """One request."""
        return cast("list[CheckInfo]", self._http.call("GET", path("doctor"))["checks"])

    def bundle(self, target: Path) -> list[str]:
        """One request, whose answer becomes the file."""
        from appcat.client.bundle import fetch

        return fetch(self._http.stream(path("doctor", "bundle"), method="POST"), target)

    # --- what has happened, and what is happening

    def list_events(self, after: int = 0, limit: int = 1000) -> list[EventInfo]:
        """One request."""
        query = {"after": after, "limit": limit}
        answer = self._http.call("GET", path("events"), query=query, headers={"Accept": "application/json"})
        return cast("list[EventInfo]", answer["events"])

    def last_events(self, count: int) -> list[EventInfo]:
        """All of them, a thousand at a time: the daemon counts from the oldest."""
        found: collections.deque[EventInfo] = collections.deque(maxlen=count)
        after = 0
        while batch := self.list_events(after):
            found += batch
            after = batch[-1]["id"]
        return list(found)

    def follow_events(self, after: int | None = None) -> Iterator[EventInfo]:
        """As they come; raises Unavailable when the daemon ends."""
        while True:
            for event in self._events_until_lost(after):
                after = event["id"]
                yield event

    def _events_until_lost(self, after: int | None) -> Iterator[EventInfo]:
        pieces = self._http.stream(path("events"), query={"after": after}, headers={"Accept": "text/event-stream"})
        return _events(pieces)

    def list_operations(self, state: OperationState | None = None) -> list[OperationInfo]:
        """One request."""
        answer = self._http.call("GET", path("operations"), query={"state": None if state is None else str(state)})
        return cast("list[OperationInfo]", answer["operations"])

    def show_operation(self, identifier: str) -> OperationInfo:
        """One request."""
        return cast("OperationInfo", self._http.call("GET", path("operations", _part(identifier))))

    def wait_operation(self, identifier: str, timeout: float) -> OperationInfo:
        """Asks again and again."""
        deadline = time.monotonic() + timeout
        while True:
            left = max(deadline - time.monotonic(), 0.0)
            found = cast(
                "OperationInfo",
                self._http.call("GET", path("operations", _part(identifier)), query={"wait": min(left, WAIT)}),
            )
            if found["state"] != RUNNING:
                return found
            if left == 0:
                raise DeadlineExceeded(
                    f"operation {identifier} ({found['verb']}) was not over within {timeout:g} s",
                    hint=f"see 'appcat operation show {identifier}', or end it: appcat operation cancel {identifier}",
                )

    def cancel(self, identifier: str) -> OperationInfo:
        """One request."""
        answer = self._http.call("POST", path("operations", _part(identifier), "cancel"), body={})
        return cast("OperationInfo", answer)

    # --- how

    def _follow(self, where: str, body: Mapping[str, Any]) -> Any:
        return follow(self._http, self._progress, "POST", where, _given(body))

    def _changed(self, where: str, body: Mapping[str, Any]) -> bool:
        return bool(self._follow(where, body)["changed"])

    def _disks(self, method: str, where: str, body: object = None) -> list[DiskInfo]:
        return cast("list[DiskInfo]", self._http.call(method, where, body=body)["disks"])

    def _attachments(self, method: str, where: str, body: object = None) -> list[AttachmentInfo]:
        return cast("list[AttachmentInfo]", self._http.call(method, where, body=body)["networks"])


def _vm(name: str, *more: str) -> str:
    """The path of a vm; raises InvalidInput for what is no name: it could be another path."""
    return path("vms", check_name(name), *more)


def _part(text: str) -> str:
    """A part of a path that has no check of its own here: the daemon checks it, but it must be a part."""
    return text or "-"


def _given(body: Mapping[str, Any]) -> dict[str, Any]:
    """Without what was left to the other side's defaults."""
    return {key: value for key, value in body.items() if value is not None}


def _create(request: CreateRequest) -> dict[str, Any]:
    disks = [{"name": name, "size": size} for name, size in request.disks]
    ports = [_port(forward) for forward in request.ports]
    given = {**encode(request), "disks": disks, "ports": ports, "networks": _joinings(request.networks)}
    return _given(given)


def _joinings(networks: Sequence[Joining] | None) -> list[str] | None:
    """As ``--network`` has them; None leaves it to the other side."""
    return None if networks is None else [str(joining) for joining in networks]


def _port(forward: PortForward) -> dict[str, Any]:
    """One published by its number says where it is by not saying it."""
    told: dict[str, Any] = encode(forward)
    return {key: told[key] for key in ("guest", "protocol")} if forward.is_own else told


def _events(pieces: Iterator[bytes]) -> Iterator[EventInfo]:
    """The events in a stream of server-sent ones; comments are for others.

    Raises Conflict when some are not kept any more; one that was too slow comes again, having missed nothing.
    """
    from appcat.services.logs import lines

    kind, data = "", ""
    for line in lines(pieces):
        name, _, value = line.decode(errors="replace").rstrip("\r\n").partition(":")
        if name == "event":
            kind = value.strip()
        elif name == "data":
            data = value.strip()
        elif not name and not value and data:
            event = json.loads(data)
            if kind == LOST and "first" in event:
                raise Conflict(event["message"], hint="look at the vms anew", code="events-lost")
            if kind == LOST:
                return
            yield cast("EventInfo", event)
            kind, data = "", ""


if TYPE_CHECKING:
    from appcat.engine import Engine

    def _is_engine(client: Client) -> Engine:
        return client
