"""What each method asks, and what it makes of the answer."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from appcat.client import Client
from appcat.client.types import (
    Changes,
    CloneKind,
    CloneRequest,
    CreateRequest,
    Joining,
    NetworkRequest,
    PortForward,
    Protocol,
    Source,
    Until,
    own_forward,
)
from appcat.errors import Conflict, InvalidInput
from appcat.model.remote import Remote
from appcat.services import contexts
from appcat.settings import Settings
from appcat.store.layout import Layout
from tests.unit.support.daemons import Answer, Asked, FakeDaemon, http_daemon

VM = {"name": "web", "status": "running", "detail": ""}
ENDED = {"id": "1", "verb": "x", "state": "succeeded", "step": "", "done": 0, "total": 0, "error": None}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in list(os.environ):
        if name.startswith("APPCAT_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("APPCAT_HOME", str(tmp_path))
    return tmp_path


def answer(result: Any) -> Callable[[Asked], Answer]:
    """Everything at once: what is asked for is picked."""
    return lambda _asked: (200, {"operation": {**ENDED, "result": result}, **result})


@pytest.fixture
def daemon(short: Path) -> Iterator[FakeDaemon]:
    everything = {
        "vm": VM,
        "vms": [VM],
        "changed": True,
        "labels": {"a": "b"},
        "disks": [],
        "ports": [],
        "clones": [],
        "networks": [],
    }
    with http_daemon(short / "d", answer(everything)) as daemon:
        yield daemon


@pytest.fixture
def client(home: Path, short: Path, daemon: FakeDaemon) -> Iterator[Client]:
    with Client(f"unix://{short / 'd'}") as client:
        yield client


ASKED: list[tuple[Callable[[Client], object], str, object]] = [
    (lambda c: c.list_vms(["name=w*"]), "GET /v1/vms?filter=name%3Dw%2A", None),
    (lambda c: c.show("web"), "GET /v1/vms/web", None),
    (lambda c: c.stats(["web"], 0.2), "GET /v1/stats?name=web&interval=0.2", None),
    (lambda c: c.wait("web", Until.READY, 5), "POST /v1/vms/web/wait", {"until": "ready", "timeout": 5}),
    (lambda c: c.start("web", wait=False), "POST /v1/vms/web/start", {"wait": False}),
    (lambda c: c.stop("web", timeout=3), "POST /v1/vms/web/stop", {"timeout": 3}),
    (lambda c: c.restart("web", force=True), "POST /v1/vms/web/restart", {"force": True, "wait": True}),
    (lambda c: c.pause("web"), "POST /v1/vms/web/pause", {}),
    (lambda c: c.edit("web", Changes(cpus=2)), "PATCH /v1/vms/web", {"cpus": 2}),
    (
        lambda c: c.edit("web", Changes(disks=(("data", 5),))),
        "PATCH /v1/vms/web",
        {"disks": [{"name": "data", "size": 5}]},
    ),
    (lambda c: c.label("web", {"a": "b"}, ["c"]), "POST /v1/vms/web/label", {"add": {"a": "b"}, "remove": ["c"]}),
    (lambda c: c.label("web", {}), "GET /v1/vms/web", None),
    (lambda c: c.rename("web", "new"), "POST /v1/vms/web/rename", {"name": "new"}),
    (lambda c: c.delete("web"), "DELETE /v1/vms/web", None),
    (lambda c: c.delete("web", force=True), "DELETE /v1/vms/web?force=true", None),
    (
        lambda c: c.create(CreateRequest("web", disks=(("data", 5),), ports=(PortForward(1, 2),))),
        "POST /v1/vms",
        {
            "name": "web",
            "disks": [{"name": "data", "size": 5}],
            "ports": [{"host": 1, "guest": 2, "address": "127.0.0.1", "protocol": "tcp"}],
            "labels": {},
            "autostart": False,
        },
    ),
    (
        lambda c: c.clone(CloneRequest("web", ("a", "b"), CloneKind.FULL)),
        "POST /v1/vms/web/clone",
        {"names": ["a", "b"], "kind": "full", "fork": False, "verify": False},
    ),
    (
        lambda c: c.clone_set([("a", "b")], fork=True),
        "POST /v1/clone-set",
        {"pairs": [{"source": "a", "name": "b"}], "fork": True},
    ),
    (
        lambda c: c.clone_set([("a", "b")], networks={"lab": "lab2"}),
        "POST /v1/clone-set",
        {"pairs": [{"source": "a", "name": "b"}], "fork": False, "networks": {"lab": "lab2"}},
    ),
    (
        lambda c: c.create(CreateRequest("web", networks=(Joining("lab", "10.77.1.5"), Joining("default")))),
        "POST /v1/vms",
        {
            "name": "web",
            "disks": [],
            "ports": [],
            "labels": {},
            "autostart": False,
            "networks": ["lab:10.77.1.5", "default"],
        },
    ),
    (
        lambda c: c.run(CreateRequest("web", networks=()), instant=True),
        "POST /v1/run",
        {
            "name": "web",
            "disks": [],
            "ports": [],
            "labels": {},
            "autostart": False,
            "networks": [],
            "instant": True,
            "remove": False,
        },
    ),
    (
        lambda c: c.clone(CloneRequest("web", ("a",), networks=(Joining("lab"),))),
        "POST /v1/vms/web/clone",
        {"names": ["a"], "fork": False, "networks": ["lab"], "verify": False},
    ),
    (lambda c: c.list_networks(), "GET /v1/networks", None),
    (lambda c: c.show_network("lab"), "GET /v1/networks/lab", None),
    (
        lambda c: c.create_network(NetworkRequest("lab", internet=False)),
        "POST /v1/networks",
        {"name": "lab", "internet": False, "twin": "", "labels": {}},
    ),
    (lambda c: c.delete_network("lab"), "DELETE /v1/networks/lab", None),
    (lambda c: c.list_attachments("web"), "GET /v1/vms/web/networks", None),
    (
        lambda c: c.attach_network("web", Joining("lab", "10.77.1.5")),
        "POST /v1/vms/web/networks",
        {"network": "lab", "address": "10.77.1.5"},
    ),
    (lambda c: c.detach_network("web", "lab"), "DELETE /v1/vms/web/networks/lab", None),
    (lambda c: c.grow_disk("web", "data", 9), "POST /v1/vms/web/disks/data/grow", {"size": 9}),
    (lambda c: c.remove_disk("web", "a/b"), "DELETE /v1/vms/web/disks/a%2Fb", None),
    (
        lambda c: c.remove_port("web", PortForward(1, 2, protocol=Protocol.UDP)),
        "DELETE /v1/vms/web/ports?host=1&guest=2&address=127.0.0.1&protocol=udp",
        None,
    ),
    (
        lambda c: c.add_port("web", own_forward(53, Protocol.UDP)),
        "POST /v1/vms/web/ports",
        {"guest": 53, "protocol": "udp"},
    ),
    (lambda c: c.remove_port("web", own_forward(80)), "DELETE /v1/vms/web/ports?guest=80&protocol=tcp", None),
    (
        lambda c: c.create(CreateRequest("web", ports=(own_forward(80),))),
        "POST /v1/vms",
        {
            "name": "web",
            "disks": [],
            "ports": [{"guest": 80, "protocol": "tcp"}],
            "labels": {},
            "autostart": False,
        },
    ),
    (lambda c: list(c.logs("web", Source.QEMU, tail=3)), "GET /v1/vms/web/logs?source=qemu&tail=3", None),
]


@pytest.mark.parametrize(("call", "line", "body"), ASKED, ids=lambda value: value if isinstance(value, str) else "")
def test_what_is_asked(
    client: Client, daemon: FakeDaemon, call: Callable[[Client], object], line: str, body: object
) -> None:
    call(client)
    asked = daemon.asked[0]
    assert (f"{asked.method} {asked.path}", asked.body) == (line, body)


@pytest.mark.parametrize("name", ["", "..", "a/b", "web?x", "Web"])
def test_what_is_no_name_is_not_asked_for(client: Client, daemon: FakeDaemon, name: str) -> None:
    for call in (client.show, client.start, client.ssh_config, client.console, client.list_disks):
        with pytest.raises(InvalidInput):
            call(name)
    for call in (client.show_network, client.delete_network, lambda name: client.detach_network("web", name)):
        with pytest.raises(InvalidInput):
            call(name)
    assert daemon.asked == []


# --- events


def test_events_as_they_come(home: Path, short: Path) -> None:
    event = {"id": 7, "time": "t", "kind": "vm.started", "vm": "web", "uuid": "", "detail": {}}
    again = {"after": 0, "first": 5, "message": "events 1 to 4 are gone"}
    sent = [
        f": \n\nid: 7\nevent: vm.started\ndata: {json.dumps(event)}\n\n"
        + 'event: lost\ndata: {"message": "events came faster than they were read"}\n\n',
        f"event: lost\ndata: {json.dumps(again)}\n\n",
    ]
    with http_daemon(short / "d", lambda _: (200, sent.pop(0).encode())) as daemon:
        following = Client(f"unix://{short / 'd'}").follow_events()
        assert next(following) == event
        with pytest.raises(Conflict) as caught:
            next(following)
    assert caught.value.code == "events-lost"
    assert [asked.path for asked in daemon.asked] == ["/v1/events", "/v1/events?after=7"]


def test_the_last_events_are_those_at_the_end(home: Path, short: Path) -> None:
    def page(asked: Asked) -> Answer:
        after = int(asked.path.partition("after=")[2].partition("&")[0])
        return 200, {"events": [{"id": number} for number in range(after + 1, min(after + 4, 9))]}

    with http_daemon(short / "d", page):
        found = Client(f"unix://{short / 'd'}").last_events(2)
    assert [event["id"] for event in found] == [7, 8]


# --- which daemon


def test_without_a_url_it_is_what_the_command_line_would_use(home: Path, short: Path, daemon: FakeDaemon) -> None:
    layout = Layout(Settings.load())
    contexts.add(layout, "lab", Remote(f"unix://{short / 'd'}"))
    contexts.use(layout, "lab")
    assert Client().names() == ["web"]
    contexts.use(layout, "local")
    assert Client()._http.dialer.url == "unix://"


# --- ssh


def ssh_daemon(asked: Asked) -> Answer:
    return 200, {"user": "root", "host_key": "ssh-ed25519 AAAA", "private_key": "KEY\n", "port": 22}


def test_plain_ssh_goes_through_this_appcat(home: Path, short: Path) -> None:
    with http_daemon(short / "d", ssh_daemon):
        client = Client(f"unix://{short / 'd'}", token="secret")
        argv = client.ssh_command("web", ["a b"])
    options = dict(word.split("=", 1) for word in argv if "=" in word and not word.startswith("-"))
    proxy = shlex.split(options["ProxyCommand"])
    assert proxy[-6:] == ["--host", f"unix://{short / 'd'}", "vm", "tunnel", "web", "22"]
    assert "secret" not in " ".join(argv)
    told = dict(word.split("=", 1) for word in proxy if word.startswith("APPCAT_"))
    assert told["APPCAT_HOME"] == str(home)
    token, key = Path(told["APPCAT_TOKEN_FILE"]), Path(options["IdentityFile"].strip('"'))
    known = Path(options["UserKnownHostsFile"].strip('"'))
    assert (token.read_text(), key.read_text()) == ("secret\n", "KEY\n")
    assert known.read_text() == "web ssh-ed25519 AAAA\n"
    assert {path.stat().st_mode & 0o777 for path in (token, key, known)} == {0o600}
    assert key.parent.stat().st_mode & 0o777 == 0o700
    assert argv[-2:] == ["root@web", "'a b'"]


def test_a_context_is_named_by_its_name(home: Path, short: Path) -> None:
    layout = Layout(Settings.load())
    contexts.add(layout, "lab", Remote(f"unix://{short / 'd'}"))
    with http_daemon(short / "d", ssh_daemon):
        block = Client.of(layout, "lab", contexts.find(layout, "lab")).ssh_config("web")
    assert block.startswith("Host web\n")
    assert "--context lab vm tunnel web 22" in block
