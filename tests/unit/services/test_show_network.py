from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

import pytest

from appcat.errors import NetworkError, NotFound
from appcat.model.machine import Backend
from appcat.services import networks, show_network
from appcat.services.context import Context
from appcat.services.describe_networks import describe_network, describe_network_fully
from appcat.services.networks import find_network
from appcat.services.routes import Route, Subnet
from appcat.services.show_network import NetworkState, judge
from appcat.switch.client import Look, Verdict, port_name
from tests.unit.support.fake_peer import FakePeer, qemu_says
from tests.unit.support.samples import OTHER_UUID, on, sample_network, sample_vm
from tests.unit.support.vms import add_vm, alive

WEB = sample_vm(networks=(on("lab", "10.77.0.2"),))
DB = sample_vm("db", uuid=OTHER_UUID, networks=(on("lab", "10.77.0.3", 1),))
MEMBERS = [(WEB, WEB.networks[0]), (DB, DB.networks[0])]
PORTS = [port_name(vm.uuid, place.slot) for vm, place in MEMBERS]
UP, DOWN, IDLE = NetworkState.UP, NetworkState.DOWN, NetworkState.IDLE


@pytest.mark.parametrize(
    ("backend", "pid", "joined", "state", "words"),
    [
        (Backend.BRIDGE, 7, PORTS, UP, ""),
        (Backend.BRIDGE, None, PORTS, UP, ""),
        (Backend.BRIDGE, 7, PORTS[:1], UP, "not joined to it: db; restart it: appcat vm restart db"),
        (Backend.BRIDGE, 7, [], DOWN, "not joined to it: web, db; restart them: appcat vm restart web db"),
        (Backend.HUB, 7, PORTS, UP, ""),
        (Backend.HUB, None, PORTS, DOWN, "its switch has ended: it is started again within seconds"),
        (None, None, [], DOWN, "not joined to it: web, db"),
    ],
)
def test_what_is_said_of_a_network_on_which_vms_run(
    backend: Backend | None, pid: int | None, joined: list[str], state: NetworkState, words: str
) -> None:
    found, detail = judge(Look(backend, pid, {"lab": joined}), MEMBERS, joined)
    assert (found, detail.startswith(words), bool(detail)) == (state, True, bool(words))


def test_nobody_misses_a_switch_where_nobody_runs() -> None:
    assert judge(Look(Backend.HUB, None, {}), [], []) == (IDLE, "")


@pytest.fixture
def switch(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, object]]:
    """What the switch and the host say; ``ports`` are those joined to the network ``lab``."""
    said: dict[str, object] = {"pid": 7, "backend": Backend.BRIDGE, "ports": PORTS, "error": None, "routes": []}

    def look(_layout: object) -> Look:
        if isinstance(said["error"], NetworkError):
            raise said["error"]
        return Look(said["backend"], said["pid"], {"lab": said["ports"]})  # type: ignore[arg-type]

    monkeypatch.setattr(show_network.client, "look", look)
    monkeypatch.setattr(show_network.client, "verdict", lambda _layout: Verdict(Backend.HUB, "no tun", "chmod"))
    monkeypatch.setattr(show_network, "host_routes", lambda: said["routes"])
    monkeypatch.setattr(networks, "host_routes", list)
    ctx.networks.save(sample_network())
    yield said


@contextlib.contextmanager
def running(ctx: Context) -> Iterator[None]:
    with alive(ctx, WEB), FakePeer(ctx.layout.runtime(WEB.uuid).status, qemu_says("running")):
        yield


def test_all_about_a_network(ctx: Context, switch: dict[str, object]) -> None:
    switch["routes"] = [Route(Subnet("10.0.0.0/8"), "tun0"), Route(Subnet("10.78.0.0/16"), "tun1")]
    add_vm(ctx, DB)
    with running(ctx):
        shown = describe_network_fully(show_network.show_network(ctx, "lab"))
    assert json.loads(json.dumps(shown)) == shown
    assert (shown["backend"], shown["state"], shown["detail"]) == ("bridge", "up", "")
    assert shown["conflicts"] == ["10.0.0.0/8 (tun0)"]
    assert [(one["vm"], one["status"], one["address"]) for one in shown["members"]] == [
        ("db", "stopped", "10.77.0.3"),
        ("web", "running", "10.77.0.2"),
    ]
    assert shown["members"][1]["names"] == ["web.lab.appcat", "web"]
    assert (shown["subnet"], shown["vms"], shown["problem"]) == ("10.77.0.0/24", ["db", "web"], "")


def test_a_vm_that_runs_and_is_not_joined(ctx: Context, switch: dict[str, object]) -> None:
    switch["ports"] = []
    with running(ctx):
        shown = show_network.show_network(ctx, "lab")
    assert (shown.state, shown.detail) == (DOWN, "not joined to it: web; restart it: appcat vm restart web")


def test_where_nobody_runs_the_backend_is_the_one_it_would_get(ctx: Context, switch: dict[str, object]) -> None:
    switch["backend"], switch["pid"] = None, None
    add_vm(ctx, DB)
    shown = show_network.show_network(ctx, "lab")
    assert (shown.state, shown.detail, shown.backend) == (IDLE, "", "hub")


def test_a_switch_that_does_not_answer(ctx: Context, switch: dict[str, object]) -> None:
    switch["error"] = NetworkError("the switch does not answer", hint="try again")
    shown = show_network.show_network(ctx, "lab")
    assert (shown.state, shown.detail) == (DOWN, "the switch does not answer: try again")


def test_a_damaged_network(ctx: Context, switch: dict[str, object]) -> None:
    add_vm(ctx, DB)
    ctx.layout.network("lab").write_text("")
    shown = describe_network_fully(show_network.show_network(ctx, "lab"))
    assert shown["state"] == "down"
    assert shown["problem"] == shown["detail"] != ""
    assert (shown["subnet"], shown["vms"]) == ("", ["db"])


def test_what_is_not_there(ctx: Context, switch: dict[str, object]) -> None:
    with pytest.raises(NotFound):
        show_network.show_network(ctx, "nobody")


def test_listing_says_what_the_file_says_and_who_is_there(ctx: Context, switch: dict[str, object]) -> None:
    add_vm(ctx, DB)
    described = describe_network(find_network(ctx, "lab"))
    assert described == {
        "name": "lab",
        "subnet": "10.77.0.0/24",
        "internet": True,
        "created": "2026-11-23T12:00:00Z",
        "owner": "",
        "twin": "",
        "labels": {},
        "vms": ["db"],
        "problem": "",
    }
