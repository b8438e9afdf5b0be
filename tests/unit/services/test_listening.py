from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from appcat.model.port import LOW, PortForward, Protocol
from appcat.services import listening
from appcat.services.listening import Listening, low_limit, lowest_port, may_listen

# Of a Linux 6.1 on x86-64: vms at 127.77.206.253 and 127.77.3.4, a web server everywhere (IPv6 socket), a connection.
TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: FDCE4D7F:4E36 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0000000000000000 100 0
   1: 04034D7F:0948 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 2 1 0000000000000000 100 0
   2: 00000000:07E8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 3 1 0000000000000000 100 0
   3: 05034D7F:4E36 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4 1 0000000000000000 100 0
"""
TCP6 = """\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when
   0: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000
   1: 00000000000000000000000001000000:0051 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000
   2: 0000000000000000FFFF000006034D7F:4E37 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000
"""
UDP = """\
   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
   10: 04034D7F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 5 2 0000000000000000 0
   11: 04034D7F:0036 0100007F:0035 01 00000000:00000000 00:00000000 00000000     0        0 6 2 0000000000000000 0
"""


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "net").mkdir()
    for name, text in (("tcp", TCP), ("tcp6", TCP6), ("udp", UDP)):
        (tmp_path / "net" / name).write_text(text)
    return tmp_path


def tcp(address: str, port: int) -> PortForward:
    return PortForward(port, 80, address)


def udp(address: str, port: int) -> PortForward:
    return PortForward(port, 80, address, Protocol.UDP)


@pytest.mark.parametrize(
    ("place", "there"),
    [
        (tcp("127.77.206.253", 20022), True),
        (tcp("127.77.206.253", 20023), False),
        (udp("127.77.206.253", 20022), False),
        (tcp("127.77.3.4", 2376), True),
        (tcp("127.77.3.5", 20022), False),  # a connection, nobody listens
        (tcp("127.77.3.6", 20023), True),
        (udp("127.77.3.4", 53), True),
        (udp("127.77.3.4", 54), False),
        (tcp("127.0.0.1", 2024), False),
    ],
)
def test_who_listens_where(proc: Path, place: PortForward, there: bool) -> None:
    assert Listening(proc).has(place) is there


def test_some_listen_everywhere(proc: Path) -> None:
    table = Listening(proc)
    assert [port for port in (80, 81, 2024, 20022) if table.on_every_address(tcp("127.77.3.4", port))] == [80, 2024]
    assert not table.on_every_address(udp("127.77.3.4", 80))


def test_an_address_is_claimed_by_who_listens_for_ssh_there(proc: Path) -> None:
    table = Listening(proc)
    assert [last for last in range(3, 8) if table.is_claimed(f"127.77.3.{last}")] == [6]
    assert table.is_claimed("127.77.206.253")


def test_real_sockets_are_found() -> None:
    with socket.create_server(("127.77.0.1", 0)) as server, socket.socket(type=socket.SOCK_DGRAM) as other:
        other.bind(("127.77.0.1", 0))
        one, two = tcp(*server.getsockname()), udp(*other.getsockname())
        table = Listening()
        assert table.has(one)
        assert table.has(two)
    assert not Listening().has(one)
    assert table.has(one)  # as of the first question


def test_without_the_tables_nobody_listens(tmp_path: Path) -> None:
    assert not Listening(tmp_path).on_every_address(tcp("127.0.0.1", 80))


@pytest.mark.parametrize(("text", "lowest", "low"), [("80\n", 80, 1024), ("3000\n", 3000, 3000), ("?", 1024, 1024)])
def test_what_a_low_port_is_the_host_decides(tmp_path: Path, text: str, lowest: int, low: int) -> None:
    setting = tmp_path / "sys/net/ipv4/ip_unprivileged_port_start"
    setting.parent.mkdir(parents=True)
    setting.write_text(text)
    assert (lowest_port(tmp_path), low_limit(tmp_path)) == (lowest, low)


@pytest.mark.parametrize(
    ("user", "status", "may"),
    [
        (0, "CapEff:\t000001ffffffffff\nCapAmb:\t0000000000000000\n", True),
        (0, "CapEff:\t00000000a80421fb\nCapAmb:\t0000000000000000\n", False),
        (1000, "CapEff:\t0000000000000400\nCapAmb:\t0000000000000000\n", False),  # would not pass on to QEMU
        (1000, "CapEff:\t0000000000000400\nCapAmb:\t0000000000000400\n", True),
        (0, "", True),
        (1000, "", False),
    ],
)
def test_a_capability_lets_a_user_listen_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: int, status: str, may: bool
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    (tmp_path / "self").mkdir()
    (tmp_path / "self/status").write_text(status)
    assert may_listen(LOW - 1, tmp_path) is may
    assert may_listen(LOW, tmp_path)


def test_this_process_is_told_the_truth() -> None:
    """What may_listen says is what the kernel does."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.77.0.1", 79))
        except PermissionError:
            assert not may_listen(79)
        else:
            assert may_listen(79)
    assert Path("/proc") == listening.PROC
