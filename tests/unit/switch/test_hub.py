"""The hub under floods, silence and restarts."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from selectors import DefaultSelector

import pytest

from appcat.model.machine import HubPort
from appcat.store.layout import Layout
from appcat.switch import client, segment
from appcat.switch import hub as hubs
from appcat.switch.files import Files
from tests.unit.support.processes import eventually
from tests.unit.switch.cards import EVERYBODY, Card, close, connected, opened
from tests.unit.switch.conftest import kill


def test_a_killed_hub_resumes_from_its_files(hub: Layout) -> None:
    """Cards of QEMUs that know nothing of it: the same sockets, the same networks."""
    one, two = lab = connected(hub, "lab", "a-1", "b-2")
    other = connected(hub, "other", "c-3", "d-4")
    (unconnected,) = opened(hub, "e-5")
    kill(hub)
    one.send("lost")
    client.ensure(hub)
    one.send("found")
    assert two.next() == "found"
    other[0].send("apart")
    assert other[1].next() == "apart"
    assert unconnected.all() == one.all() == two.all() == []
    assert client.look(hub).networks == {"lab": ["a-1", "b-2"], "other": ["c-3", "d-4"]}
    close([*lab, *other, unconnected])


def test_a_card_that_comes_after_its_port_was_connected_hears_everything(hub: Layout) -> None:
    """A vm's port is on its network before there is a QEMU, and its guest may say nothing for long."""
    (one,) = connected(hub, "lab", "a-1")
    (port,) = client.open_ports(hub, ["b-2"])
    client.connect(hub, [("b-2", "lab")])
    one.send("nobody is there")
    time.sleep(2 * segment.KNOCK)
    late = Card(port, 2)
    one.send("hello")
    assert late.next() == "hello"
    close([one, late])


def test_it_is_the_socket_that_counts_and_not_what_a_frame_says(hub: Layout) -> None:
    """A stranger's socket is not heard where a vm's card is, whatever MAC it names."""
    one, two = cards = connected(hub, "lab", "a-1", "b-2")
    one.send("mine")
    assert two.next() == "mine"
    assert isinstance(one.port.wiring, HubPort)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger, pytest.raises(PermissionError):
        stranger.sendto(EVERYBODY + one.mac + b"\x88\xb5" + b"not mine", str(one.port.wiring.hub))
    assert two.all() == []
    close(cards)


def test_what_is_no_frame_goes_nowhere(hub: Layout) -> None:
    """An empty datagram would end QEMU's reading for good."""
    one, two = cards = connected(hub, "lab", "a-1", "b-2")
    for short in (b"", b"x", EVERYBODY + one.mac + b"\x88"):
        one.send_raw(short)
    one.send("whole")
    assert two.next() == "whole"
    assert two.all() == []
    close(cards)


def test_the_largest_frames_go_through(hub: Layout) -> None:
    one, two = cards = connected(hub, "lab", "a-1", "b-2")
    text = "x" * 65000
    one.send(text)
    assert two.next() == text
    close(cards)


def test_a_group_is_no_card(hub: Layout) -> None:
    """Frames to a group go to everybody, even when somebody has sent from its address."""
    one, two, three = cards = connected(hub, "lab", "a-1", "b-2", "c-3")
    group = b"\x33\x33\0\0\0\1"
    one.send("from a group", sender=group)
    two.send("to the group", group)
    assert two.next() == "from a group"
    assert [one.next(), three.next(), three.next()] == ["to the group", "from a group", "to the group"]
    close(cards)


def test_a_card_that_moves_is_found_where_it_spoke_last(hub: Layout) -> None:
    one, two, three = cards = connected(hub, "lab", "a-1", "b-2", "c-3")
    moving = b"\2\0\0\0\0\x77"
    two.send("here", sender=moving)
    three.send("now here", sender=moving)
    one.all()
    one.send("where are you?", moving)
    assert three.all()[-1] == "where are you?"
    assert "where are you?" not in two.all()
    close(cards)


class Flood:
    """A card that sends as much as is taken, in a thread, until the ``with`` block ends."""

    def __init__(self, card: Card, to: bytes = EVERYBODY, size: int = 1514) -> None:
        self.card, self.frame = card, (to + card.mac + b"\x88\xb5" + b"flood").ljust(size, b"\0")
        self.sent, self._ending = 0, False
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Flood:
        self._thread.start()
        eventually(lambda: self.sent > 100)
        return self

    def __exit__(self, *_: object) -> None:
        self._ending = True
        self._thread.join()

    def _run(self) -> None:
        while not self._ending:
            if self.card.try_to_send(self.frame):
                self.sent += 1
            else:
                time.sleep(0.0005)


def test_a_flood_starves_no_other_network(hub: Layout) -> None:
    """Twenty ports of one network, one of which floods all others: another network's frames all come, in order."""
    names = [f"f{number:02}-{number % 10}" for number in range(20)]
    flooded = connected(hub, "flooded", *names)
    one, two = quiet = connected(hub, "quiet", "a-1", "b-2")
    with Flood(flooded[0]):
        for number in range(100):
            one.send(f"ping {number}")
            assert two.next() == f"ping {number}"
            two.send(f"pong {number}", one.mac)
            assert one.next() == f"pong {number}"
    assert flooded[1].next() == "flood"
    close([*flooded, *quiet])


def test_a_guest_that_takes_nothing_is_not_waited_for(hub: Layout) -> None:
    """A paused vm: others on its network go on, one that sends much to it among them."""
    one, two, paused = cards = connected(hub, "lab", "a-1", "b-2", "c-3")
    paused.send("before")
    assert (one.next(), two.next()) == ("before",) * 2
    with Flood(one, to=paused.mac):
        two.send("hello", one.mac)
        assert one.next() == "hello"
    one.send("still here", two.mac)
    assert two.next() == "still here"
    assert client.look(hub).networks["lab"] == ["a-1", "b-2", "c-3"]
    taken = paused.all()
    assert taken and set(taken) == {"flood"}  # what was kept for it, and no more than that
    assert len(taken) * 1514 < 4 * segment.TOO_MUCH
    one.send("awake?", paused.mac)
    assert paused.next() == "awake?"
    close(cards)


def test_nothing_is_lost_between_two_that_take_what_comes(hub: Layout) -> None:
    """The sender waits: a socket of QEMU's holds few frames, and TCP is slow where they are dropped."""
    one, two = cards = connected(hub, "lab", "a-1", "b-2")
    two.send("here")
    assert one.next() == "here"
    count = 3000

    def send() -> None:
        for number in range(count):
            one.send(str(number), two.mac, size=1514)

    sender = threading.Thread(target=send)
    sender.start()
    assert [two.next() for _ in range(count)] == [str(number) for number in range(count)]
    sender.join()
    close(cards)


def test_ports_that_no_qemu_took_are_swept(short: Path) -> None:
    """By the hub itself, in time; here without waiting for it."""
    files = Files(str(short))
    (short / "switch").mkdir()
    there = hubs.Hub(files, DefaultSelector())
    there.open(["a-1", "b-2"])
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as qemu:
        qemu.bind(files.of("b-2", ".vm"))
        assert there.living() == 2
        for port in there.ports.values():
            port.opened -= 2 * hubs.GRACE
        assert there.living() == 1
        assert files.ports() == ["b-2"]
        there.forget(["b-2"])
    assert list((short / "switch").iterdir()) == []


def test_cards_are_forgotten_in_time_and_are_never_too_many() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setblocking(False)
    lab = segment.Segment("lab", set(), 0.0)
    port = segment.Port("a-1", ours, "/nowhere", 0.0)
    lab.join(port)
    for number in range(segment.MOST_CARDS + 5):
        theirs.send(EVERYBODY + bytes((2, 0)) + number.to_bytes(4, "big") + b"\x88\xb5")
        lab.serve(port, 1, 0.0)
    assert 0 < len(lab.cards) <= segment.MOST_CARDS
    lab.age(1.0)
    assert lab.cards
    lab.age(segment.FORGET_CARDS)
    assert not lab.cards
    ours.close()
    theirs.close()
