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
from appcat.qemu.monitor import Monitor
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
        (("mac @10.8 52:54:00:12:34:56",), 2),
        (("mac @1.7 52:54:00:12:34:56",), 2),
        (("mac @10.77 52:54:00:12:34:56",), 2),
        (("address @g0.7 10.0.2.15/24",), 2),
        (("address @ 10.0.2.15/24",), 2),
        (("section 0644",), 2),
        (("section 0644 relative AAAA",), 2),
        (("section 0999 /tmp/x AAAA",), 2),
        (("section 0644 /tmp/x A",), 2),
        (("section 0644 /tmp/x AAAA more",), 2),
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


def put(shared: Cat, text: str) -> None:
    """What a guest's own user has written into a file."""
    shared("vm", "exec", "web", "--", "sh", "-c", 'printf %s "$1" >/tmp/hosts; chmod 600 /tmp/hosts', "sh", text)


def section(text: str) -> str:
    return f"section 0644 /tmp/hosts {base64.b64encode(text.encode()).decode()}".rstrip()


OURS = "# appcat begin\n{}# appcat end\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", OURS),
        ("mine\n", "mine\n" + OURS),
        ("no end of line", "no end of line\n" + OURS),
        ("above\n# appcat begin\nold\n# appcat end\nbelow\n", "above\n" + OURS + "below\n"),
        ("# appcat begin\nold\n# appcat end", OURS),
        ("# appcat begin\n# appcat end\nbelow", OURS + "below"),
        # Marks that somebody has damaged: nothing of theirs is lost, and nothing is appended again and again.
        ("# appcat begin\nlost its end\n", "# appcat begin\nlost its end\n" + OURS),
        ("# appcat end\nlost its beginning\n", "# appcat end\nlost its beginning\n" + OURS),
        (
            "# appcat begin\nmine\n# appcat begin\nold\n# appcat end\n# appcat end\n",
            "# appcat begin\nmine\n" + OURS + "# appcat end\n",
        ),
        ("# appcat beginning\n# appcat end of it\n", "# appcat beginning\n# appcat end of it\n" + OURS),
    ],
)
def test_section_is_replaced_where_it_stands_and_the_rest_is_kept(
    shared: Cat, port: Port, before: str, after: str
) -> None:
    put(shared, before)
    for content in ("new\n", "two\nlines\n", "without an end"):
        assert port.ask("x", section(content)) == "ok x"
        found = shared("vm", "exec", "web", "--", "sh", "-c", "stat -c %a /tmp/hosts; cat /tmp/hosts")
        assert found == "644\n" + after.format(content if content.endswith("\n") else content + "\n")


def test_section_is_taken_out_and_needs_no_file(shared: Cat, port: Port) -> None:
    put(shared, "above\n# appcat begin\nold\n# appcat end\nbelow\n")
    assert port.ask("x", section("")) == "ok x"
    assert shared("vm", "exec", "web", "--", "cat", "/tmp/hosts") == "above\nbelow\n"
    assert port.ask("x", section("")) == "ok x"
    shared("vm", "exec", "web", "--", "rm", "/tmp/hosts")
    assert port.ask("x", section("")) == "ok x"
    assert shared.try_("vm", "exec", "web", "--", "test", "-e", "/tmp/hosts").returncode == 1
    assert port.ask("x", "section 0640 /tmp/made/on/the/way/hosts QQ==") == "ok x"
    assert shared("vm", "exec", "web", "--", "cat", "/tmp/made/on/the/way/hosts") == "# appcat begin\nA\n# appcat end\n"


def test_section_of_what_is_no_text_is_refused(shared: Cat, port: Port) -> None:
    script = "dd if=/dev/zero of=/tmp/hosts bs=1k count=1 2>/dev/null; mkdir -p /tmp/directory"
    shared("vm", "exec", "web", "--", "sh", "-c", script)
    assert port.ask("x", section("new\n")).startswith("error x 2 /tmp/hosts is too large, or no text")
    assert port.ask("x", "section 0644 /tmp/directory QQ==").startswith("error x 2 /tmp/directory: ")
    shared("vm", "exec", "web", "--", "sh", "-c", "yes | head -c 2000000 >/tmp/hosts")
    assert port.ask("x", section("new\n")).startswith("error x 2 /tmp/hosts is too large, or no text")
    shared("vm", "exec", "web", "--", "rm", "-r", "/tmp/hosts", "/tmp/directory")


def test_names_of_the_host_and_of_the_guest_itself(shared: Cat) -> None:
    lines = shared("vm", "exec", "web", "--", "cat", "/etc/hosts").splitlines()
    assert (lines[0], lines[-1]) == ("# appcat begin", "# appcat end")
    assert lines[1:-1] == ["127.0.0.1 localhost web", "::1 localhost", "10.0.2.2 host.appcat.internal"]


def test_card_that_is_not_there_is_waited_for_in_vain(shared: Cat, port: Port) -> None:
    assert port.ask("x", "mac @10.7 52:54:00:aa:bb:cc") == "error x 2 there is no network card at @10.7"
    assert port.ask("y", "hostname web") == "ok y"


@pytest.fixture
def monitor(shared: Cat) -> Iterator[Monitor]:
    with Monitor(Layout(Settings.load(shared.env)).runtime(shared.show("web")["uuid"]).monitor, 30) as monitor:
        yield monitor


@contextlib.contextmanager
def plugged_in(monitor: Monitor, number: int, mac: str) -> Iterator[None]:
    """A network card behind root port ``hotNUMBER`` that leads nowhere; taken out again."""
    monitor.execute("device_add", driver="virtio-net-pci", id="extra", mac=mac, bus=f"hot{number}", romfile="")
    try:
        yield
    finally:
        monitor.execute("device_del", id="extra")
        while monitor.next_event(30).get("data", {}).get("device") != "extra":
            pass


def facts(shared: Cat, address: str) -> tuple[str, str]:
    """MAC and prefix of the interface that has ``address``, in a guest whose tools are few."""
    lines = shared("vm", "exec", "web", "--", "ip", "-o", "addr").splitlines()
    ((name, prefix),) = [(line.split()[1], line.split()[3]) for line in lines if f" {address}/" in line]
    return shared("vm", "exec", "web", "--", "cat", f"/sys/class/net/{name}/address").strip(), prefix


def test_card_that_is_plugged_in_gets_its_mac_and_address(shared: Cat, port: Port, monitor: Monitor) -> None:
    """It is named by its root port; the guest is told while it is still finding it."""
    for number, address in ((7, "10.77.0.2"), (4, "10.77.1.2")):
        statements = (f"mac @10.{number} 52:54:00:aa:bb:0{number}", f"address @10.{number} {address}/24")
        with plugged_in(monitor, number, "52:54:00:00:00:01"):
            assert port.ask("x", *statements) == "ok x"
            assert facts(shared, address) == (f"52:54:00:aa:bb:0{number}", f"{address}/24")
            assert port.ask("y", *statements) == "ok y"
            assert port.ask("z", f"address @10.{number} {address}/16") == "ok z"
            assert facts(shared, address) == (f"52:54:00:aa:bb:0{number}", f"{address}/16")
        assert port.ask("gone", "hostname web") == "ok gone"
        assert address not in shared("vm", "exec", "web", "--", "ip", "addr")


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
