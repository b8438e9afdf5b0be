"""The switch as the rest of appcat sees it; each test with both backends."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from appcat.errors import NetworkError
from appcat.model.machine import Backend, HubPort, TapPort
from appcat.store.layout import Layout
from appcat.switch import client
from tests.unit.support.processes import eventually, fork_many
from tests.unit.switch.cards import SOON, close, connected, opened
from tests.unit.switch.conftest import kill, layout_in


def test_a_name_fits_an_interface() -> None:
    name = client.port_name("12345678-90ab-cdef-1234-567890abcdef", 3)
    assert name == "1234567890ab-3"
    assert len(name) < 16


def test_ports_say_how_qemu_is_wired(layout: Layout) -> None:
    (port,) = client.open_ports(layout, ["a-1"])
    if layout.settings.switch == Backend.BRIDGE:
        assert isinstance(port.wiring, TapPort)
        kinds = [str(Path(f"/proc/self/fd/{descriptor}").readlink()).partition(":")[0] for descriptor in port.inherit]
        assert kinds == ["/dev/net/tun", "net", "user"]
        assert port.wiring.descriptor == port.inherit[0]
        assert not any(os.get_inheritable(descriptor) for descriptor in port.inherit)
    else:
        assert isinstance(port.wiring, HubPort)
        assert port.inherit == ()
        assert port.wiring.local.parent.stat().st_mode & 0o077 == 0
        assert len(str(port.wiring.local)) < 100
        assert port.wiring.hub.is_socket()
    port.close()
    assert port.inherit == ()


def test_no_names_need_no_switch(layout: Layout) -> None:
    assert client.open_ports(layout, []) == []
    client.connect(layout, [])
    client.forget(layout, ["a-1"])
    assert client.look(layout) == client.Look(None, None, {})


def test_frames_flow_between_the_cards_of_a_network(layout: Layout) -> None:
    one, two, three = cards = connected(layout, "lab", "a-1", "b-2", "c-3")
    one.send("hello")
    assert (two.next(), three.next()) == ("hello", "hello")
    two.send("to one", one.mac)
    assert one.next() == "to one"
    one.send("to two", two.mac)
    assert two.next() == "to two"
    assert three.all() == []  # where one and two are was learned
    close(cards)


def test_nothing_flows_before_it_is_connected(layout: Layout) -> None:
    one, two = cards = connected(layout, "lab", "a-1", "b-2")
    (new,) = opened(layout, "c-3")
    new.send("too early")
    one.send("not for you")
    assert two.next() == "not for you"
    assert two.all() == new.all() == []
    client.connect(layout, [("c-3", "lab")])
    new.send("now")
    assert (one.next(), two.next()) == ("now", "now")
    assert one.all() == []
    close([*cards, new])


def test_networks_are_apart(layout: Layout) -> None:
    red = connected(layout, "red", "a-1", "b-2")
    blue = connected(layout, "blue", "c-3", "d-4")
    red[0].send("red")
    blue[0].send("blue", red[1].mac)
    blue[0].send("as if from red", red[1].mac, sender=red[0].mac)
    assert red[1].all() == ["red"]
    assert [text for text in blue[1].all() if text != "blue" and text != "as if from red"] == []
    assert client.look(layout).networks == {"red": ["a-1", "b-2"], "blue": ["c-3", "d-4"]}
    close([*red, *blue])


def test_connecting_again_changes_nothing_and_elsewhere_moves(layout: Layout) -> None:
    one, two, three = cards = connected(layout, "lab", "a-1", "b-2", "c-3")
    client.connect(layout, [("a-1", "lab")])
    one.send("once")
    assert two.all() == ["once"]
    client.connect(layout, [("c-3", "other")])
    one.send("without three")
    assert two.all() == ["without three"]
    assert three.all() == ["once"]
    close(cards)


def test_one_name_is_one_living_port(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    (card,) = connected(layout, "lab", "a-1")
    monkeypatch.setattr(client, "BUSY_PORT", 0.2)
    with pytest.raises(NetworkError, match="in use") as raised:
        client.open_ports(layout, ["b-2", "a-1"])
    assert raised.value.code == "port-busy"
    (other,) = connected(layout, "lab", "b-2")  # nothing of it was left behind by the refusal
    other.send("there")
    assert card.next() == "there"
    card.close()
    (again,) = opened(layout, "a-1")  # unconnected again, whatever the one before was
    other.send("not yet")
    assert again.all() == []
    close([other, again])


def test_a_port_that_is_not_there_is_named(layout: Layout) -> None:
    (card,) = connected(layout, "lab", "a-1")
    with pytest.raises(NetworkError, match="no port zz-9"):
        client.connect(layout, [("zz-9", "lab")])
    card.close()


@pytest.mark.parametrize("name", ["", "../x", "sixteen-letters-", "a b", "a/b"])
def test_a_name_that_is_none_is_refused(layout: Layout, name: str) -> None:
    with pytest.raises(NetworkError):
        client.open_ports(layout, [name])


def test_a_card_that_goes_leaves_the_others_alone(layout: Layout) -> None:
    one, two, three = cards = connected(layout, "lab", "a-1", "b-2", "c-3")
    three.send("I was here")
    assert (one.next(), two.next()) == ("I was here",) * 2
    three.close()
    client.forget(layout, ["c-3"])
    eventually(lambda: client.look(layout).networks == {"lab": ["a-1", "b-2"]})
    one.send("are you there?", three.mac)
    one.send("all")
    assert two.next() in ("are you there?", "all")  # unknown again, so it is asked of everybody
    close(cards[:2])


def test_killed_and_traffic_between_old_and_new(layout: Layout) -> None:
    """What the next switch finds is joined to what comes: the same network, the same namespace."""
    one, two = cards = connected(layout, "lab", "a-1", "b-2")
    before = kill(layout)
    assert client.look(layout).networks == {"lab": ["a-1", "b-2"]}
    if layout.settings.switch == Backend.BRIDGE:
        one.send("no switch is needed")
        assert two.next() == "no switch is needed"
    (new,) = opened(layout, "c-3")
    assert client.look(layout).pid not in (None, before)
    client.connect(layout, [("c-3", "lab"), ("a-1", "lab")])
    new.send("from the new one")
    assert (one.next(), two.next()) == ("from the new one",) * 2
    one.send("from an old one")
    assert (two.next(), new.next()) == ("from an old one",) * 2
    close([*cards, new])


def test_ensure_brings_it_back(layout: Layout) -> None:
    one, two = cards = connected(layout, "lab", "a-1", "b-2")
    kill(layout)
    client.ensure(layout)
    client.ensure(layout)
    assert client.look(layout).pid
    one.send("again")
    assert two.next() == "again"
    close(cards)


def test_many_at_once_start_one_switch(layout: Layout) -> None:
    """Everybody gets a port of the same switch, though all of them find none."""

    def work(number: int) -> int:
        (port,) = client.open_ports(layout, [f"port-{number}"])
        pid = client.look(layout).pid
        port.close()
        assert pid
        return pid

    assert len(set(fork_many(6, work))) == 1


def test_the_backend_of_living_ports_stays(hub: Layout, short: Path) -> None:
    """A verdict that changes must not cut vms off from those that start later."""
    one, two = cards = connected(hub, "lab", "a-1", "b-2")
    changed = layout_in(short, Backend.BRIDGE)
    assert client.backend(changed) is Backend.HUB
    (new,) = connected(changed, "lab", "c-3")
    new.send("same hub")
    assert (one.next(), two.next()) == ("same hub",) * 2
    kill(changed)
    (newer,) = connected(changed, "lab", "d-4")
    newer.send("still")
    assert one.next() == "still"
    close([*cards, new, newer])


def test_the_backend_changes_when_nothing_lives(bridge: Layout, short: Path) -> None:
    (card,) = connected(bridge, "lab", "a-1")
    card.close()
    changed = layout_in(short, Backend.HUB)
    (card,) = connected(changed, "lab", "a-1")
    assert isinstance(card.port.wiring, HubPort)
    assert client.backend(bridge) is Backend.HUB
    card.close()


def test_a_lost_runtime_directory_is_noticed(hub: Layout) -> None:
    import shutil

    client.ensure(hub)
    pid = client.look(hub).pid
    shutil.rmtree(hub.settings.runtime)
    client.ensure(hub)
    assert client.look(hub).pid not in (None, pid)
    assert SOON
