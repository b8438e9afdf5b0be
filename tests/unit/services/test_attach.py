"""Places on networks: of vms that are stopped, and of a real QEMU with root ports whose guest never runs."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from appcat.errors import AlreadyExists, AppcatError, NotFound, QemuError, WrongState
from appcat.model.base import StateMismatch
from appcat.model.event import EventKind
from appcat.model.machine import Backend
from appcat.model.network import MOST_NETWORKS, Joining
from appcat.qemu.argv import hotplug_args
from appcat.qemu.hotplug import plugged_in
from appcat.qemu.monitor import Monitor
from appcat.services import cables, cards, networks
from appcat.services.addresses import AddressInUse
from appcat.services.attach import attach_network, detach_network, list_attachments
from appcat.services.context import Context
from appcat.services.events import last_events
from appcat.services.machines import claim_runtime
from appcat.switch import client
from tests.unit.support.qemu import connect, needs_qemu, spawned
from tests.unit.support.samples import OTHER_UUID, UUID, on, sample_network, sample_run, sample_vm
from tests.unit.support.vms import add_vm, lock_of_life
from tests.unit.switch.conftest import bridges_work, kill


@pytest.fixture(autouse=True)
def no_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "host_routes", list)


@pytest.fixture
def web(ctx: Context) -> Context:
    """A stopped vm on no network; there are ``lab`` and ``store``."""
    ctx.networks.save(sample_network())
    ctx.networks.save(sample_network("store", subnet="10.77.1.0/24"))
    add_vm(ctx)
    return ctx


def told(ctx: Context) -> list[tuple[str, dict[str, object]]]:
    return [(event.kind, event.detail) for event in last_events(ctx, 100)]


def test_a_place_is_a_line_in_the_spec(web: Context) -> None:
    changed = attach_network(web, "web", Joining("lab", "10.77.0.9"))
    (place,) = changed.networks
    assert changed == web.store.load("web")
    assert list_attachments(web, "web") == (place,)
    assert (place.network, place.address, place.slot) == ("lab", "10.77.0.9", 0)
    assert told(web)[-1] == (EventKind.NETWORK_ATTACHED, {"network": "lab", "address": "10.77.0.9"})
    assert detach_network(web, "web", "lab").networks == web.store.load("web").networks == ()
    assert told(web)[-1] == (EventKind.NETWORK_DETACHED, {"network": "lab", "address": "10.77.0.9"})


def test_what_stays_keeps_its_slot(web: Context) -> None:
    for name in ("lab", "store", "default"):
        attach_network(web, "web", Joining(name))
    detach_network(web, "web", "store")
    assert [(place.network, place.slot) for place in web.store.load("web").networks] == [("lab", 0), ("default", 2)]
    assert attach_network(web, "web", Joining("store")).networks[-1].slot == 1


REFUSED: dict[str, tuple[Joining, type[AppcatError]]] = {
    "on it": (Joining("lab"), AlreadyExists),
    "on it, at that address": (Joining("lab", "10.77.0.2"), AlreadyExists),
    "no such network": (Joining("nowhere"), NotFound),
    "somebody's address": (Joining("store", "10.77.1.7"), AddressInUse),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_and_nothing_changed(web: Context, case: str) -> None:
    joining, kind = REFUSED[case]
    add_vm(web, sample_vm("db", uuid=OTHER_UUID, networks=(on("store", "10.77.1.7"),)))
    attach_network(web, "web", Joining("lab"))
    before = web.store.load("web")
    with pytest.raises(kind) as caught:
        attach_network(web, "web", joining)
    assert caught.value.hint
    assert web.store.load("web") == before


def test_no_room_for_a_fifth(web: Context) -> None:
    full = tuple(on(f"n{slot}", f"10.77.9.{slot + 2}", slot) for slot in range(MOST_NETWORKS))
    web.store.save(dataclasses.replace(web.store.load("web"), networks=full))
    with pytest.raises(WrongState) as caught:
        attach_network(web, "web", Joining("lab"))
    assert caught.value.code == "no-room"


def test_detaching_from_where_it_is_not(web: Context) -> None:
    attach_network(web, "web", Joining("lab"))
    with pytest.raises(NotFound) as caught:
        detach_network(web, "web", "store")
    assert (caught.value.code, "lab" in caught.value.hint) == ("attachment-not-found", True)


# --- with a QEMU


@pytest.fixture(params=list(Backend))
def running(web: Context, request: pytest.FixtureRequest) -> Iterator[Context]:
    """``web`` with a QEMU that has root ports and no guest that runs."""
    if request.param is Backend.BRIDGE and not bridges_work():
        pytest.skip("this user can have no bridges on this host")
    ctx = web.but(settings=dataclasses.replace(web.settings, switch=request.param))
    with with_qemu(ctx):
        yield ctx
    client.end(ctx.layout)


@contextlib.contextmanager
def with_qemu(ctx: Context) -> Iterator[None]:
    runtime = ctx.layout.runtime(UUID)
    claim_runtime(runtime)
    ctx.store.save_run("web", sample_run())
    argv = ["qemu-system-x86_64", "-machine", "q35", "-S", "-nodefaults", "-display", "none", "-uuid", UUID]
    argv += [*hotplug_args(), "-qmp", f"unix:{runtime.monitor},server=on,wait=off"]
    with lock_of_life(ctx, "web") as lock, spawned(argv, ctx.layout.vm("web").qemu_log, [lock]) as child:
        connect(runtime.monitor).close()
        ctx.store.save_run("web", sample_run(pid=child.pid))
        yield


@contextlib.contextmanager
def monitor_of(ctx: Context) -> Iterator[Monitor]:
    with Monitor(ctx.layout.runtime(UUID).monitor) as monitor:
        yield monitor


def in_qemu(ctx: Context) -> dict[str, str]:
    with monitor_of(ctx) as monitor:
        return plugged_in(monitor)


def connected(ctx: Context) -> dict[str, list[str]]:
    return {network: ports for network, ports in client.look(ctx.layout).networks.items() if ports}


@needs_qemu
def test_a_running_vm_gets_a_card_that_is_on_the_network(running: Context) -> None:
    words: list[str] = []
    ctx = running.but(progress=lambda step, _done, _total: words.append(step))
    (place,) = attach_network(ctx, "web", Joining("lab")).networks
    assert in_qemu(running) == {"nic1": "hot7"}
    with monitor_of(running) as monitor:
        assert place.mac in monitor.execute("human-monitor-command", command_line="info network")
    assert connected(running) == {"lab": [client.port_name(UUID, 0)]}
    run = running.store.load_run("web")
    assert run
    assert run.backend == running.settings.switch
    assert any("is told when it goes on" in word for word in words)


@needs_qemu
def test_a_place_is_where_nothing_else_is_plugged_in(running: Context) -> None:
    with monitor_of(running) as monitor:
        for port in ("hot7", "hot5"):
            monitor.execute("device_add", driver="virtio-rng-pci", id=f"rng-{port}", bus=port)
    for name, slot in (("lab", 1), ("store", 3)):
        assert attach_network(running, "web", Joining(name)).networks[-1].slot == slot
    with pytest.raises(WrongState) as caught:
        attach_network(running, "web", Joining("default"))
    assert (caught.value.code, "restart" in caught.value.hint) == ("no-room", True)
    assert {"nic2": "hot6", "nic4": "hot4"}.items() <= in_qemu(running).items()


@needs_qemu
def test_a_card_that_qemu_does_not_take_leaves_nothing(running: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    def bad_device(*args: Any) -> dict[str, Any]:
        return {**device(*args), "driver": "no-such-card"}

    device = cards.segment_device
    with monkeypatch.context() as patch:
        patch.setattr(cards, "segment_device", bad_device)
        with pytest.raises(QemuError, match="no-such-card"):
            attach_network(running, "web", Joining("lab"))
    assert running.store.load("web").networks == ()
    with monitor_of(running) as monitor:
        assert "seg0" not in monitor.execute("human-monitor-command", command_line="info network")
    attach_network(running, "web", Joining("lab"))
    assert in_qemu(running) == {"nic1": "hot7"}


@needs_qemu
def test_what_was_cut_off_is_finished_by_whoever_comes_next(running: Context) -> None:
    vm = running.store.load("web")
    running.store.save(dataclasses.replace(vm, networks=(on("lab", "10.77.0.2"), on("store", "10.77.1.2", 1))))
    store = on("store", "10.77.1.2", 1)
    with monitor_of(running) as monitor, cables.laid(running, vm.uuid, [store]) as laid:  # cut off between the two
        cards._hand_over(monitor, 1, laid.wiring[0], laid.inherit)
    attach_network(running, "web", Joining("lab"))
    assert in_qemu(running) == {"nic1": "hot7", "nic2": "hot6"}
    ports = [client.port_name(UUID, slot) for slot in (0, 1)]
    assert connected(running) == {"lab": ports[:1], "store": ports[1:]}
    with pytest.raises(AlreadyExists):
        attach_network(running, "web", Joining("lab"))


@needs_qemu
def test_a_card_keeps_its_network_whatever_becomes_of_the_switch(running: Context) -> None:
    """With bridges, QEMU was handed what keeps the namespace: the next switch finds the same one."""
    attach_network(running, "web", Joining("lab"))
    before = connected(running)
    kill(running.layout)
    attach_network(running, "web", Joining("store"))
    assert connected(running) == {**before, "store": [client.port_name(UUID, 1)]}


@needs_qemu
def test_a_paused_guest_cannot_let_go(running: Context) -> None:
    attach_network(running, "web", Joining("lab"))
    before = running.store.load("web")
    with pytest.raises(WrongState) as caught:
        detach_network(running, "web", "lab")
    assert caught.value.code == "vm-paused"
    assert running.store.load("web") == before
    assert in_qemu(running) == {"nic1": "hot7"}


@needs_qemu
def test_a_card_that_is_not_there_needs_nobody_to_let_go(running: Context) -> None:
    vm = running.store.load("web")
    running.store.save(dataclasses.replace(vm, networks=(on("lab", "10.77.0.2"),)))
    assert detach_network(running, "web", "lab").networks == ()
    assert in_qemu(running) == {}


@needs_qemu
def test_one_qemu_has_one_kind_of_switch(running: Context) -> None:
    run = running.store.load_run("web")
    assert run
    other = next(backend for backend in Backend if backend != running.settings.switch)
    running.store.save_run("web", dataclasses.replace(run, backend=other))
    with pytest.raises(StateMismatch):
        attach_network(running, "web", Joining("lab"))
    assert running.store.load("web").networks == ()
    assert in_qemu(running) == {}
