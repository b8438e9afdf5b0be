"""The resident guest program (``templates/guest/appcat-guest.c``) in a real guest, spoken to by the byte."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appcat.qemu.agent import Agent
from appcat.settings import Settings
from appcat.store.layout import Layout
from tests.cat import Cat

pytestmark = pytest.mark.vm

LARGEST = 256 * 1024


class Port:
    """A host's end of the guest program's port."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(15)
        self._socket.connect(str(path))
        self._file = self._socket.makefile("rb")

    def send(self, data: str | bytes) -> None:
        self._socket.sendall(data.encode() if isinstance(data, str) else data)

    def answer(self) -> str:
        return self._file.readline().decode().rstrip("\n")

    def ask(self, identifier: str, *statements: str) -> str:
        """The answer to a document of our own; one to what a host before us left half said is passed over."""
        self.send("\n".join(["", f"appcat-guest 1 {identifier}", *statements, "end", ""]))
        while (answer := self.answer()).split()[1] != identifier:
            pass
        return answer

    def close(self) -> None:
        self._file.close()
        self._socket.close()


@pytest.fixture
def path(shared: Cat) -> Path:
    layout = Layout(Settings.load({**shared.env}))
    return layout.runtime(shared.show("web")["uuid"]).guest


@pytest.fixture
def port(path: Path) -> Iterator[Port]:
    with contextlib.closing(Port(path)) as port:
        yield port


def test_answers_carry_the_id_of_the_question(port: Port) -> None:
    assert port.ask("first") == "ok first"
    assert port.ask("second") == "ok second"


@pytest.mark.parametrize(
    ("statements", "line"),
    [
        (("unheard of",), 2),
        (("hostname web", "hostname UPPER"), 3),
        (("hostname",), 2),
        (("hostname a b",), 2),
        (("machine-id 123",), 2),
        (("mac eth0 52:54:00:12:34",), 2),
        (("mac eth0 52:54:00:12:34:567",), 2),
        (("mac an-interface-with-a-name-too-long 52:54:00:12:34:56",), 2),
        (("address eth0 10.0.2.15",), 2),
        (("address eth0 10.0.2.15/33",), 2),
        (("address eth0 10.0.2.256/24",), 2),
        (("address eth0 10.0.2.15/24 nowhere",), 2),
        (("file 0644 relative AAAA",), 2),
        (("file 9999 /tmp/x AAAA",), 2),
        (("file 0644 /tmp/x A",), 2),
        (("file 0644 /tmp/x A===",), 2),
        (("file 0644 /tmp/x AA!A",), 2),
        (("entropy " + "A" * 4096,), 2),
        (("clock tomorrow",), 2),
        (("clock 1.5",), 2),
        (("hooks here",), 2),
        (("",), 2),
        (("hostname web",) * 300, 258),
    ],
)
def test_what_is_wrong_is_refused_with_its_line(port: Port, statements: tuple[str, ...], line: int) -> None:
    assert port.ask("x", *statements).startswith(f"error x {line} ")


@pytest.mark.parametrize("header", ["appcat-guest 1 ", "appcat-guest 1 a b", "appcat-guest 1 " + "i" * 65])
def test_a_malformed_first_line(port: Port, header: str) -> None:
    port.send(f"{header}\nend\n")
    assert port.answer().startswith("error - 1 ")


def test_another_version_is_refused(port: Port) -> None:
    port.send("appcat-guest 2 x\nend\n")
    assert port.answer().startswith("error x 1 ")


def test_nothing_is_applied_when_a_later_line_is_wrong(shared: Cat, port: Port) -> None:
    assert port.ask("x", "file 0644 /tmp/never AAAA", "nonsense").startswith("error x 3")
    assert shared.try_("vm", "exec", "web", "--", "test", "-e", "/tmp/never").returncode == 1


def test_garbage_and_endless_lines(port: Port) -> None:
    port.send(os.urandom(1000).replace(b"appcat", b"") + b"\n\n\0\n")
    port.send(b"x" * 3 * LARGEST)
    assert port.ask("after") == "ok after"


def test_a_document_that_is_too_large(port: Port) -> None:
    port.send(b"\nappcat-guest 1 big\nfile 0644 /tmp/x " + b"A" * LARGEST + b"\nend\n")
    assert port.answer().startswith("error - 0 ")
    assert port.ask("after") == "ok after"


def test_a_zero_byte(port: Port) -> None:
    port.send(b"\nappcat-guest 1 x\nhostname w\0b\nend\n")
    assert port.answer().startswith("error - 0 ")


@pytest.mark.parametrize(
    "cut", ["appcat-gu", "appcat-guest 1 half", "appcat-guest 1 half\nhostname h", "appcat-guest 1 half\nend"]
)
def test_a_host_that_goes_away_half_way(path: Path, cut: str) -> None:
    with contextlib.closing(Port(path)) as gone:
        gone.send(cut)
    with contextlib.closing(Port(path)) as port:
        assert port.ask("next") == "ok next"


def test_many_hosts_one_after_the_other(path: Path) -> None:
    for number in range(30):
        with contextlib.closing(Port(path)) as port:
            assert port.ask(str(number)) == f"ok {number}"


def test_a_document_in_small_pieces(port: Port) -> None:
    for byte in "\nappcat-guest 1 slow\nend\n":
        port.send(byte)
        time.sleep(0.01)
    assert port.answer() == "ok slow"


@pytest.mark.parametrize("size", [0, 1, 2, 3, 150_000])
def test_files_arrive_whole_with_their_mode(shared: Cat, port: Port, size: int) -> None:
    content = os.urandom(size)
    data = base64.b64encode(content).decode()
    assert port.ask("x", f"file 0640 /tmp/deep/down/f {data}".strip()) == "ok x"
    found = shared("vm", "exec", "web", "--", "sh", "-c", "stat -c %a /tmp/deep/down/*; sha256sum </tmp/deep/down/f")
    assert found.split()[:2] == ["640", hashlib.sha256(content).hexdigest()]


def test_hooks_run_in_order_and_their_failure_is_told(shared: Cat, port: Port) -> None:
    def hook(name: str, script: str) -> str:
        data = base64.b64encode(f"#!/bin/sh\n{script}\n".encode()).decode()
        return f"file 0755 /tmp/hooks/{name} {data}"

    first, second = hook("10", "echo $HOSTNAME >/tmp/order"), hook("20", "echo second >>/tmp/order")
    assert port.ask("x", second, first, "hooks /tmp/hooks") == "ok x"
    assert shared("vm", "exec", "web", "--", "cat", "/tmp/order") == "web\nsecond\n"
    assert port.ask("y", hook("30", "exit 3"), "hooks /tmp/hooks") == "error y 3 /tmp/hooks/30 ended with status 3"
    assert port.ask("z", hook("30", "sleep 60"), "hooks /tmp/hooks").startswith("error z 3 /tmp/hooks/30 was ended")
    assert port.ask("n", "hooks /tmp/no-such-directory") == "ok n"


def test_a_new_mac_and_the_guest_is_still_reached(shared: Cat, port: Port) -> None:
    address = "address eth0 10.0.2.15/24 10.0.2.2"
    old = shared("vm", "exec", "web", "--", "cat", "/sys/class/net/eth0/address").strip()
    assert port.ask("x", "mac eth0 52:54:00:aa:bb:cc", address) == "ok x"
    assert shared("vm", "exec", "web", "--", "cat", "/sys/class/net/eth0/address") == "52:54:00:aa:bb:cc\n"
    assert port.ask("y", f"mac eth0 {old}", address) == "ok y"
    assert shared("vm", "exec", "web", "--", "cat", "/sys/class/net/eth0/address") == f"{old}\n"


def test_clock_and_entropy(shared: Cat, port: Port) -> None:
    assert port.ask("x", "clock 1000000000.000000000", f"entropy {base64.b64encode(bytes(64)).decode()}") == "ok x"
    assert int(shared("vm", "exec", "web", "--", "date", "+%s")) - 1_000_000_000 in range(120)
    assert port.ask("y", f"clock {time.time():.9f}") == "ok y"


def agent_version(path: Path) -> str:
    with Agent(path, 60) as agent:
        return str(agent.execute("guest-info")["version"])


def switches(shared: Cat, program: str) -> int:
    """How often a program of the guest has been given, or has given up, its processor."""
    script = f"grep -h voluntary_ctxt_switches /proc/$(pidof {program} | cut -d' ' -f1)/status | tr -dc '0-9\\n'"
    return sum(map(int, shared("vm", "exec", "web", "--", "sh", "-c", script).split()))


def test_agent_is_reached_again_and_again_and_sleeps_between(shared: Cat) -> None:
    """Its port is joined to it only while a host is there; it used to look for one ten times a second."""
    settings = Settings.load(shared.env)
    path = Layout(settings).runtime(shared.show("web")["uuid"]).agent
    first = agent_version(path)
    assert [agent_version(path) for _ in range(3)] == [first] * 3
    before = switches(shared, "qemu-ga")
    time.sleep(5)
    assert switches(shared, "qemu-ga") - before <= 5
    assert agent_version(path) == first


def test_agent_that_died_is_reached_again(shared: Cat) -> None:
    settings = Settings.load(shared.env)
    path = Layout(settings).runtime(shared.show("web")["uuid"]).agent
    shared("vm", "exec", "web", "--", "killall", "-9", "qemu-ga")
    assert agent_version(path)
