"""Namespaces that outlive whoever made them; also for a user without privileges."""

from __future__ import annotations

import ctypes
import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appcat.model.machine import Backend
from appcat.store.layout import Layout
from appcat.switch import bridge as bridges
from appcat.switch import client, namespace, serve, trial
from appcat.switch.files import Files, boot_id
from appcat.switch.netlink import Links
from tests.unit.support.processes import as_nobody, fork_many
from tests.unit.switch import tun
from tests.unit.switch.cards import close, connected, opened
from tests.unit.switch.conftest import kill, layout_in

PR_SET_DUMPABLE = 4


def in_a_child(work: Callable[[], Any]) -> Any:
    """What ``work`` returns in a process of its own: nobody comes back from a namespace."""
    return fork_many(1, lambda _: work())[0]


def made() -> tuple[int, int]:
    """Descriptors of new namespaces, network and user, that nobody else has."""
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        try:
            namespace.unshare(namespace.NEW_USER | namespace.NEW_NET)
            Links().add_bridge("seen", "by the test")
            socket.send_fds(theirs, [b"x"], list(namespace.own()))
        finally:
            os._exit(0)
    with ours, theirs:
        os.wait()
        network, user = socket.recv_fds(ours, 1, 2)[1]
        return network, user


@pytest.fixture(autouse=True)
def _namespaces_are_allowed() -> None:
    if in_a_child(trial.attempt)[0] in ("user", "net", "bridge"):
        pytest.skip("this user can make no namespaces on this host")


def test_it_is_found_while_somebody_holds_it() -> None:
    network, user = made()
    inode = namespace.inode(network)
    os.close(user)  # the network namespace alone is enough

    def look() -> tuple[list[str], list[str]]:
        found = namespace.find(inode, lambda: "seen" in Links().all())
        assert found is not None
        before = sorted(Links().all())
        namespace.enter(found)
        return before, sorted(Links().all())

    before, after = in_a_child(look)
    assert "seen" in after
    assert "seen" not in before
    os.close(network)
    assert in_a_child(lambda: namespace.find(inode, lambda: True)) is None


def test_one_that_is_somebody_elses_is_not_taken() -> None:
    """Inodes are used again."""
    network, user = made()
    inode = namespace.inode(network)
    assert in_a_child(lambda: namespace.find(inode, lambda: "home" in Links().all())) is None
    assert in_a_child(lambda: namespace.find(inode, lambda: 1 // 0 == 0)) is None
    os.close(network)
    os.close(user)


def test_another_homes_namespace_is_not_taken(bridge: Layout, short: Path) -> None:
    """Even when the file says so."""
    (card,) = connected(bridge, "lab", "a-1")
    other = layout_in(short / "o", Backend.BRIDGE)
    client.ensure(other)
    kill(other)
    record = Path(Files(str(bridge.settings.runtime)).namespace).read_text(encoding="utf-8")
    Path(Files(str(other.settings.runtime)).namespace).write_text(record, encoding="utf-8")
    (stranger,) = connected(other, "lab", "b-2")
    assert client.look(other).networks == {"lab": ["b-2"]}
    stranger.send("hello")
    assert card.all() == []
    close([card, stranger])
    client.end(other)


def test_a_record_of_another_boot_counts_for_nothing(short: Path) -> None:
    files = Files(str(short))
    (short / "switch").mkdir()
    assert files.boot_inode() is None
    for text, inode in ((f"{boot_id()} 17", 17), ("other-boot 17", None), ("", None), ("17", None)):
        Path(files.namespace).write_text(text, encoding="utf-8")
        assert files.boot_inode() == inode


def test_the_host_has_no_address_there(bridge: Layout) -> None:
    """Neither by IPv4 nor by IPv6: what guests send to everybody gets no answer from the host."""
    (card,) = connected(bridge, "lab", "a-1")
    network = card.port.inherit[1]

    def addresses() -> tuple[str, str, str]:
        namespace.enter(network)
        routes = Path("/proc/net/route").read_text(encoding="ascii")
        return routes, Path("/proc/net/if_inet6").read_text(encoding="ascii"), Path("/proc/net/dev").read_text("ascii")

    routes, six, devices = in_a_child(addresses)
    assert len(routes.splitlines()) <= 1
    assert six == ""
    assert "a-1:" in devices
    close([card])


def test_bridges_without_ports_go(bridge: Layout) -> None:
    one, two = connected(bridge, "one", "a-1")[0], connected(bridge, "two", "b-2")[0]
    two.close()
    network = one.port.inherit[1]

    def swept() -> list[str]:
        namespace.enter(network)
        there = object.__new__(bridges.Bridge)
        there._links = Links()
        assert there.living() == 1
        return sorted(link.alias for link in Links().all().values() if bridges.is_network(link))

    assert in_a_child(swept) == ["one"]
    one.close()


def fork_start(layout: Layout) -> socket.socket:
    """As ``client._start``, without a new interpreter: another user may not be able to run this one."""
    ours, its = socket.socketpair()
    layout.switch_directory.mkdir(parents=True, exist_ok=True)
    if os.fork() == 0:
        try:
            ours.close()
            serve.main(str(layout.settings.runtime), str(layout.home), Backend.BRIDGE, its.detach())
        finally:
            os._exit(0)
    its.close()
    return ours


def test_all_of_it_by_a_user_without_privileges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bridge, taps, the switch killed and found again, a new port that joins the old ones."""
    if os.getuid() != 0:
        pytest.skip("the other tests run as an ordinary user anyway")
    monkeypatch.setattr(client, "_start", fork_start)

    def work() -> list[str]:
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1)  # as after exec: setuid has made this process one to keep out of
        with tempfile.TemporaryDirectory(dir="/tmp") as base:
            layout = layout_in(Path(base), Backend.BRIDGE)
            layout.settings.runtime.mkdir(mode=0o700)
            cards = connected(layout, "lab", "a-1", "b-2")
            pid, _ = os.waitpid(kill_child(layout), 0)
            cards[0].send("no switch")
            told = [cards[1].next()]
            (new,) = opened(layout, "c-3")
            client.connect(layout, [("c-3", "lab")])
            assert client.look(layout).pid not in (None, pid)
            new.send("new")
            told += [cards[0].next(), cards[1].next()]
            close([*cards, new])
            client.end(layout)
            return told

    def kill_child(layout: Layout) -> int:
        pid = client.look(layout).pid
        assert pid
        os.kill(pid, 9)
        return pid

    with tun.mode(0o666):
        assert as_nobody(trial.attempt) == ("", 0)
        assert as_nobody(work) == ["no switch", "new", "new"]


def test_what_a_closed_device_says() -> None:
    if os.getuid() != 0:
        pytest.skip("changing the device's permissions needs root")
    with tun.mode(0o600):
        assert as_nobody(trial.attempt) == ("tun", 13)
