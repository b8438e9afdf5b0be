from __future__ import annotations

import socket
import struct

import pytest

from appcat.services.routes import Route, Subnet, host_routes, overlapping, parse_netstat, parse_proc


def word(address: str) -> str:
    """An address as the kernel prints it."""
    return f"{struct.unpack('=L', socket.inet_aton(address))[0]:08X}"


def line(interface: str, destination: str, mask: str, flags: int = 1) -> str:
    return f"{interface}\t{word(destination)}\t00000000\t{flags:04X}\t0\t0\t0\t{word(mask)}\t0\t0\t0  "


HEADER = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT   "


def proc(*lines: str) -> str:
    return "\n".join([HEADER, *lines, ""])


def test_routes_of_linux() -> None:
    found = parse_proc(
        proc(
            line("eth0", "0.0.0.0", "0.0.0.0", 3),
            line("eth0", "192.168.1.0", "255.255.255.0"),
            line("tun0", "10.77.0.0", "255.255.0.0", 3),
            line("tun0", "10.8.0.5", "255.255.255.255", 5),
        )
    )
    assert [str(route) for route in found] == ["192.168.1.0/24 (eth0)", "10.77.0.0/16 (tun0)", "10.8.0.5/32 (tun0)"]


def test_pieces_of_the_default_route_and_what_leads_nowhere_are_left_out() -> None:
    lines = [
        line("tun0", "0.0.0.0", "128.0.0.0"),
        line("tun0", "128.0.0.0", "128.0.0.0"),
        line("eth0", "10.77.0.0", "255.255.255.0", 0),
        line("*", "10.77.1.0", "255.255.255.0", 0x201),
        line("eth0", "224.0.0.0", "240.0.0.0"),
    ]
    assert parse_proc(proc(*lines)) == []


@pytest.mark.parametrize("text", ["", HEADER, f"{HEADER}\neth0\t1\n", f"{HEADER}\neth0\tXX\t0\t0001\t0\t0\t0\tYY\n"])
def test_what_cannot_be_read_is_no_route(text: str) -> None:
    assert parse_proc(text) == []


NETSTAT = """\
Routing tables

Internet:
Destination        Gateway            Flags               Netif Expire
default            192.168.1.1        UGScg                 en0
default            link#20            UCSIg             bridge100      !
0/1                utun4              USc                 utun4
127                127.0.0.1          UCS                   lo0
127.0.0.1          127.0.0.1          UH                    lo0
10                 link#22            UCS                 utun5
10.77/16           10.8.0.1           UGSc                utun4
169.254            link#11            UCS                   en0      !
172.16.8/21        utun4              USc                 utun4
192.168.1          link#11            UCS                   en0      !
192.168.1.1/32     link#11            UCS                   en0      !
192.168.1.1        a0:b1:c2:d3:e4:f5  UHLWIir               en0   1176
192.168            link#30            UCS               bridge7
224.0.0/4          link#11            UmCS                  en0      !
255.255.255.255/32 link#11            UCS                   en0      !
"""


def test_routes_of_macos() -> None:
    assert [str(route) for route in parse_netstat(NETSTAT)] == [
        "127.0.0.0/8 (lo0)",
        "127.0.0.1/32 (lo0)",
        "10.0.0.0/8 (utun5)",
        "10.77.0.0/16 (utun4)",
        "169.254.0.0/16 (en0)",
        "172.16.8.0/21 (utun4)",
        "192.168.1.0/24 (en0)",
        "192.168.1.1/32 (en0)",
        "192.168.1.1/32 (en0)",
        "192.168.0.0/24 (bridge7)",
        "255.255.255.255/32 (en0)",
    ]


@pytest.mark.parametrize("text", ["", "Routing tables\n", "Destination Gateway\n10 x\n", "10.77/16 a U en0\n"])
def test_what_netstat_does_not_say(text: str) -> None:
    assert parse_netstat(text) == []


def test_overlapping_is_to_contain_or_to_be_contained() -> None:
    routes = [Route(Subnet(text), "x") for text in ("10.77.0.0/16", "10.77.3.9/32", "10.78.0.0/16")]
    assert [str(route.subnet) for route in overlapping(Subnet("10.77.3.0/24"), routes)] == [
        "10.77.0.0/16",
        "10.77.3.9/32",
    ]


def test_routes_of_this_host_can_be_read() -> None:
    assert all(route.subnet.prefixlen >= 8 for route in host_routes())
