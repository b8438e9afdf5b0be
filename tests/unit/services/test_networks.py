from __future__ import annotations

import pytest

from appcat.errors import AlreadyExists, AppcatError, Busy, InvalidInput, NotFound
from appcat.model.event import EventKind
from appcat.services import networks
from appcat.services.context import Context
from appcat.services.events import list_events
from appcat.services.networks import (
    NetworkInUse,
    NetworkRequest,
    SubnetInUse,
    create_network,
    delete_network,
    ensure_default,
    find_network,
    free_subnet,
    list_networks,
    members,
)
from appcat.services.routes import Route, Subnet
from appcat.store import locks
from tests.unit.support.listing import names_in
from tests.unit.support.processes import Child, fork_many
from tests.unit.support.samples import OTHER_UUID, on, sample_vm
from tests.unit.support.vms import add_vm


@pytest.fixture(autouse=True)
def routes(monkeypatch: pytest.MonkeyPatch) -> list[Route]:
    """The host's routes, as the test has them."""
    found: list[Route] = []
    monkeypatch.setattr(networks, "host_routes", lambda: found)
    return found


def make(ctx: Context, name: str, subnet: str | None = None, **options: object) -> str:
    return create_network(ctx, NetworkRequest(name, subnet, **options)).subnet  # type: ignore[arg-type]


def test_without_a_subnet_the_first_free_one_is_taken(ctx: Context) -> None:
    assert [make(ctx, name) for name in ("a", "b")] == ["10.77.0.0/24", "10.77.1.0/24"]
    delete_network(ctx, "a")
    assert make(ctx, "c") == "10.77.0.0/24"


def test_what_was_asked_for_is_what_there_is(ctx: Context) -> None:
    made = create_network(ctx, NetworkRequest("lab", "10.99.0.0/16", internet=False, labels={"role": "test"}))
    assert ctx.networks.load("lab") == made
    assert (made.subnet, made.internet, made.labels) == ("10.99.0.0/16", False, {"role": "test"})
    assert made.owner
    (event,) = list_events(ctx)
    assert (event.kind, event.detail) == (EventKind.NETWORK_CREATED, {"network": "lab", "subnet": "10.99.0.0/16"})


def test_a_vpn_that_has_all_of_one_range_leaves_another(ctx: Context, routes: list[Route]) -> None:
    routes.append(Route(Subnet("10.0.0.0/8"), "tun0"))
    assert make(ctx, "a") == "172.27.0.0/24"
    routes += [Route(Subnet("172.16.0.0/12"), "tun0"), Route(Subnet("192.168.128.0/17"), "tun0")]
    with pytest.raises(SubnetInUse, match="no subnet is free"):
        make(ctx, "b")
    assert ctx.networks.names() == ["a"]


def test_free_subnets_go_round_what_is_taken() -> None:
    taken = [Subnet(text) for text in ("10.77.0.0/23", "10.77.2.128/25", "192.168.1.0/24")]
    assert free_subnet(taken) == Subnet("10.77.3.0/24")


@pytest.mark.parametrize(
    ("subnet", "owner"),
    [
        ("10.77.5.0/24", "the network lab (10.77.5.0/24)"),
        ("10.77.0.0/16", "the network lab"),
        ("10.77.5.8/29", "the network lab"),
        ("10.0.2.0/24", "10.0.2.0/24, through which every vm reaches its host"),
        ("10.0.0.0/16", "10.0.2.0/24, through which"),
        ("172.17.0.0/24", "a route of this host, 172.17.0.0/16 (docker0)"),
        ("172.16.0.0/16", "a route of this host, 172.16.3.4/32 (tun0)"),
    ],
)
def test_a_subnet_in_use_is_refused_with_its_owner(ctx: Context, routes: list[Route], subnet: str, owner: str) -> None:
    routes += [Route(Subnet("172.17.0.0/16"), "docker0"), Route(Subnet("172.16.3.4/32"), "tun0")]
    make(ctx, "lab", "10.77.5.0/24")
    with pytest.raises(SubnetInUse) as caught:
        make(ctx, "other", subnet)
    assert owner in caught.value.message
    assert caught.value.code == "subnet-in-use"
    assert ctx.networks.names() == ["lab"]


def test_a_twin_repeats_a_subnet(ctx: Context, routes: list[Route]) -> None:
    make(ctx, "lab", "10.77.5.0/24")
    routes.append(Route(Subnet("10.77.0.0/16"), "tun0"))
    assert make(ctx, "fork", twin="lab") == make(ctx, "fork2", "10.77.5.0/24", twin="fork") == "10.77.5.0/24"
    assert ctx.networks.load("fork").twin == "lab"
    with pytest.raises(InvalidInput, match=r"10\.77\.5\.0/24"):
        make(ctx, "fork3", "10.77.6.0/24", twin="lab")
    with pytest.raises(NotFound):
        make(ctx, "fork3", twin="nobody")


def test_a_twin_of_the_default_network(ctx: Context) -> None:
    assert make(ctx, "fork", twin="default") == ctx.networks.load("default").subnet


@pytest.mark.parametrize("name", ["", "none", "LAB", "../x", "a.b", "x" * 64])
def test_names_that_no_network_can_have(ctx: Context, name: str) -> None:
    with pytest.raises(InvalidInput):
        make(ctx, name)
    assert ctx.networks.names() == []


def test_a_taken_name(ctx: Context) -> None:
    make(ctx, "lab")
    with pytest.raises(AlreadyExists) as caught:
        make(ctx, "lab")
    assert caught.value.code == "network-exists"


def test_the_default_network_is_there_when_somebody_looks(ctx: Context) -> None:
    make(ctx, "lab")
    assert [(seen.name, seen.problem) for seen in list_networks(ctx)] == [("default", ""), ("lab", "")]
    found = find_network(ctx, "default").network
    assert found is not None
    assert found.subnet == "10.77.1.0/24"
    assert ensure_default(ctx) == found


def test_the_default_network_can_be_made_by_hand_only_where_there_is_none(ctx: Context) -> None:
    assert make(ctx, "default", "10.99.0.0/24") == "10.99.0.0/24"
    assert ensure_default(ctx).subnet == "10.99.0.0/24"
    with pytest.raises(AlreadyExists):
        make(ctx, "default")


def test_listing_goes_on_where_there_can_be_no_default_network(ctx: Context, routes: list[Route]) -> None:
    make(ctx, "lab", "192.168.200.0/24")
    routes += [Route(Subnet(text), "tun0") for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.128.0/17")]
    assert [seen.name for seen in list_networks(ctx)] == ["lab"]


def test_a_damaged_network_is_shown_with_the_reason(ctx: Context) -> None:
    make(ctx, "lab")
    add_vm(ctx, sample_vm(networks=(on("lab", "10.77.0.2"),)))
    ctx.layout.network("lab").write_text("{")
    seen = {seen.name: seen for seen in list_networks(ctx)}
    assert seen["default"].problem == ""
    assert seen["lab"].network is None
    assert "lab.json is not JSON" in seen["lab"].problem
    assert [vm.name for vm, _ in seen["lab"].members] == ["web"]
    assert find_network(ctx, "lab") == seen["lab"]


def test_members_are_those_whose_files_say_so(ctx: Context) -> None:
    make(ctx, "lab")
    web, db = on("lab", "10.77.0.2"), on("lab", "10.77.0.3", 1)
    add_vm(ctx, sample_vm(networks=(web,)))
    add_vm(ctx, sample_vm("db", uuid=OTHER_UUID, networks=(on("other", "10.88.0.2"), db)))
    add_vm(ctx, sample_vm("app"))
    add_vm(ctx, sample_vm("bad", networks=(on("lab", "10.77.0.9"),)))
    ctx.layout.vm("bad").spec.write_text("damaged")
    assert [(vm.name, place) for vm, place in members(ctx, "lab")] == [("db", db), ("web", web)]


def test_a_network_that_vms_are_on_stays(ctx: Context) -> None:
    make(ctx, "lab")
    add_vm(ctx, sample_vm(networks=(on("lab", "10.77.0.2"),)))
    add_vm(ctx, sample_vm("db", networks=(on("lab", "10.77.0.3"),)))
    with pytest.raises(NetworkInUse, match="db, web") as caught:
        delete_network(ctx, "lab")
    assert caught.value.code == "network-in-use"
    for name in ("db", "web"):
        ctx.store.remove(name)
    delete_network(ctx, "lab")
    assert ctx.networks.names() == []
    assert [event.kind for event in list_events(ctx)] == [EventKind.NETWORK_CREATED, EventKind.NETWORK_DELETED]


def test_a_twin_of_what_is_gone_or_another_is_nobodys_twin(ctx: Context) -> None:
    def twin() -> str:
        found = find_network(ctx, "twin").network
        assert found is not None
        return found.twin

    subnet = make(ctx, "lab")
    create_network(ctx, NetworkRequest("twin", twin="lab"))
    assert twin() == "lab"
    delete_network(ctx, "lab")
    assert twin() == ""
    assert make(ctx, "lab") != subnet
    assert twin() == ""


@pytest.mark.parametrize("name", ["lab", "default"])
def test_a_network_that_was_lost_is_made_again_as_it_was(ctx: Context, name: str) -> None:
    add_vm(ctx, sample_vm(networks=(on(name, "10.77.9.2"),)))
    assert make(ctx, name) == "10.77.9.0/24"


@pytest.mark.parametrize("subnet", [None, "10.77.9.0/24"])
def test_a_lost_network_is_not_made_without_its_members_addresses(ctx: Context, subnet: str | None) -> None:
    add_vm(ctx, sample_vm("db", networks=(on("lab", "10.77.9.2"),)))
    add_vm(ctx, sample_vm("web", networks=(on("lab", "10.77.10.3"),)))
    with pytest.raises(InvalidInput, match=r"addresses outside 10\.77\.9\.0/24: 10\.77\.10\.3") as caught:
        make(ctx, "lab", subnet)
    assert caught.value.code == "invalid-subnet"
    assert make(ctx, "lab", "10.77.0.0/16") == "10.77.0.0/16"


def test_the_default_network_stays(ctx: Context) -> None:
    ensure_default(ctx)
    with pytest.raises(NetworkInUse, match="always exists"):
        delete_network(ctx, "default")
    assert ctx.networks.names() == ["default"]


@pytest.mark.parametrize("name", ["lab", "default"])
def test_a_damaged_network_can_be_deleted(ctx: Context, name: str) -> None:
    make(ctx, name)
    ctx.layout.network(name).write_text("")
    delete_network(ctx, name)
    assert ctx.networks.names() == []


@pytest.mark.parametrize(("name", "error"), [("nobody", NotFound), ("../x", InvalidInput)])
def test_what_is_not_there_cannot_be_deleted_or_looked_at(ctx: Context, name: str, error: type[AppcatError]) -> None:
    for attempt in (delete_network, find_network):
        with pytest.raises(error):
            attempt(ctx, name)


def test_many_at_once_get_subnets_of_their_own(ctx: Context) -> None:
    subnets = fork_many(12, lambda number: make(ctx, f"n{number}"))
    assert len(set(subnets)) == 12


def test_one_of_many_with_one_name_wins(ctx: Context) -> None:
    def attempt(_number: int) -> str:
        try:
            return make(ctx, "lab")
        except AlreadyExists:
            return "exists"

    assert sorted(fork_many(12, attempt)) == ["10.77.0.0/24"] + ["exists"] * 11


def test_the_allocation_lock_is_waited_for(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "DEFAULT_WAIT", 0.0)
    make(ctx, "lab")
    hold = locks.hold
    monkeypatch.setattr(networks.locks, "hold", lambda path, verb, **_options: hold(path, verb, wait=0.0))
    with hold(ctx.layout.home_lock, "clone web"):
        for attempt in (lambda: make(ctx, "other"), lambda: delete_network(ctx, "lab")):
            with pytest.raises(Busy, match="clone web"):
                attempt()
    assert ctx.networks.names() == ["lab"]


KILLED = """
import os, pathlib, signal, sys
from appcat.services import networks
from appcat.services.context import Context
from appcat.settings import Settings
from appcat.store import files
home = pathlib.Path(sys.argv[1])
ctx = Context(Settings(home, home / "cache", home / "run", home))
networks.host_routes = lambda: []
def die(*_): os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_create_that_is_killed_leaves_no_half_network(ctx: Context) -> None:
    code = KILLED + "os.fsync = die\nnetworks.create_network(ctx, networks.NetworkRequest('lab'))"
    with Child(code, ctx.layout.home) as child:
        child.process.wait()
    assert len(names_in(ctx.layout.networks)) == 1
    assert ctx.networks.names() == []
    assert make(ctx, "lab") == "10.77.0.0/24"


def test_a_delete_that_is_killed_has_deleted_or_not(ctx: Context) -> None:
    make(ctx, "lab")
    code = KILLED + "from appcat.store import networks as store\nstore.sync_directory = die\n"
    with Child(code + "networks.delete_network(ctx, 'lab')", ctx.layout.home) as child:
        child.process.wait()
    assert ctx.networks.names() == []
    assert make(ctx, "lab") == "10.77.0.0/24"
