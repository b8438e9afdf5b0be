"""The process: what it does about odd clients, and when it ends."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from appcat.errors import NetworkError
from appcat.store import locks
from appcat.store.layout import Layout
from appcat.switch import client, serve, wire
from tests.unit.support.processes import eventually
from tests.unit.switch.cards import close, connected
from tests.unit.switch.conftest import kill


def ask(layout: Layout, line: bytes) -> dict[str, object]:
    """The answer to a line as it is."""
    with socket.socket(socket.AF_UNIX) as channel:
        channel.settimeout(10)
        channel.connect(str(layout.switch_socket))
        channel.sendall(line)
        answer, _ = wire.receive(channel)
        return answer


def request(**parts: object) -> bytes:
    return wire.encode({"protocol": wire.PROTOCOL, **parts})


@pytest.mark.parametrize(
    "line",
    [
        b"nonsense\n",
        b"[]\n",
        b"\xff\n",
        request(do="dance"),
        request(do="open"),
        request(do="open", ports=["../../x"]),
        request(do="connect", joins=[["a-1"]]),
        request(do="connect", joins=["nothing"]),
        request(do="connect", joins=[["a-1", "lab"]]),
    ],
)
def test_a_wrong_request_is_refused_and_the_next_one_served(layout: Layout, line: bytes) -> None:
    client.ensure(layout)
    answer = ask(layout, line)
    assert answer["error"]
    assert "pid" in ask(layout, request(do="look"))


def test_one_that_says_nothing_keeps_nobody_waiting(layout: Layout) -> None:
    client.ensure(layout)
    with socket.socket(socket.AF_UNIX) as silent, socket.socket(socket.AF_UNIX) as talker:
        silent.connect(str(layout.switch_socket))
        talker.connect(str(layout.switch_socket))
        talker.sendall(b'{"do": "lo')
        cards = connected(layout, "lab", "a-1", "b-2")
        cards[0].send("hello")
        assert cards[1].next() == "hello"
        close(cards)


def test_one_that_says_too_much_is_hung_up_on(layout: Layout) -> None:
    client.ensure(layout)
    with socket.socket(socket.AF_UNIX) as talker:
        talker.settimeout(10)
        talker.connect(str(layout.switch_socket))
        with pytest.raises(OSError):
            for _ in range(100):
                talker.sendall(b"x" * 4096)
            assert talker.recv(1) == b""
            raise ConnectionResetError
    assert client.look(layout).pid


def test_another_version_takes_its_place(layout: Layout) -> None:
    """An upgrade: whoever speaks another protocol ends it, and starts one of its own."""
    client.ensure(layout)
    assert ask(layout, wire.encode({"protocol": wire.PROTOCOL + 1, "do": "greet"})) == {"again": True}
    eventually(lambda: not locks.is_held(layout.switch_directory / "lock"))


def test_it_is_one_process_per_home(layout: Layout) -> None:
    client.ensure(layout)
    ours, its = socket.socketpair()
    with ours, its:
        line = [sys.executable, "-m", "appcat.switch", "serve", str(layout.settings.runtime), str(layout.home), "hub"]
        done = subprocess.run([*line, str(its.fileno())], pass_fds=(its.fileno(),), cwd="/", timeout=20)
        assert done.returncode == 1
    assert client.look(layout).pid


def test_it_ends_with_its_home(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    client.ensure(layout)
    pid = client.look(layout).pid
    assert pid
    shutil.rmtree(layout.home)
    eventually(lambda: not locks.is_held(layout.switch_directory / "lock"))
    assert not layout.switch_socket.exists()
    layout.home.mkdir()


def test_it_ends_when_nobody_needs_it(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the clock, here a fast one: not while a client is connected, a port lives, or something was asked lately."""
    monkeypatch.setattr(serve, "IDLE", 0.0)
    runtime, home = short / "run", short / "home"
    (runtime / "switch").mkdir(parents=True)
    home.mkdir()
    files = serve.Files(str(runtime))
    lock = os.open(files.lock, os.O_RDWR | os.O_CREAT)
    switch = serve.Switch(files, str(home), "hub", lock)
    ours, its = socket.socketpair()
    with ours:
        switch.attend(its)
        switch._tick()
        assert not switch.ending
        ours.sendall(request(do="open", ports=["a-1"]))
        switch._round(1.0)
        assert "ports" in wire.receive(ours)[0]
    switch._round(1.0)
    switch._tick()
    assert not switch.ending
    switch.backend.forget(["a-1"])
    switch._tick()
    assert switch.ending
    switch.run()
    assert not (runtime / "switch.sock").exists()
    os.close(lock)


def test_it_says_why_it_cannot_start(hub: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    """To whoever has started it, and in its log."""
    hub.switch_socket.parent.mkdir(mode=0o700)
    hub.switch_socket.mkdir()
    with pytest.raises(NetworkError, match="refuses the switch"):
        client.ensure(hub)
    assert "could not start" in (hub.switch_directory / "log").read_text(encoding="utf-8")
    hub.switch_socket.rmdir()


def test_the_log_is_bounded(tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = "from appcat.switch.serve import *\nfor _ in range(5000): say('x' * 100)\nbound_log()\nsay('end')"
    with log.open("ab") as output:
        subprocess.run([sys.executable, "-c", code], stderr=output, check=True, timeout=60)
    assert log.stat().st_size < 1000
    assert "end" in log.read_text(encoding="utf-8")


def test_a_look_without_a_switch_is_of_what_lives(layout: Layout) -> None:
    cards = connected(layout, "lab", "a-1", "b-2")
    kill(layout)
    cards[1].close()
    line = [sys.executable, "-m", "appcat.switch", "look", str(layout.settings.runtime)]
    found = json.loads(subprocess.run(line, capture_output=True, check=True, timeout=20, cwd="/").stdout)
    assert found == {"backend": layout.settings.switch, "networks": {"lab": ["a-1"]}}
    cards[0].close()
    assert client.look(layout) == client.Look(None, None, {})


def test_it_starts_with_few_modules() -> None:
    """It delays the first vm of a home: what is imported takes most of its start."""
    code = "import sys; import appcat.switch.serve; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    heavy = {"pathlib", "dataclasses", "typing", "subprocess", "logging", "shutil", "hashlib", "appcat.settings"}
    assert not heavy & set(loaded)
