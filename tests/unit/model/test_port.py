from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appcat.errors import InvalidInput
from appcat.model.port import PortForward, Protocol, check_distinct, parse_forward

PORTS = st.integers(1, 65535)
FORWARDS = st.builds(PortForward, PORTS, PORTS, st.ip_addresses(v=4).map(str), st.sampled_from(Protocol))


@given(FORWARDS)
def test_what_is_written_reads_back(forward: PortForward) -> None:
    assert parse_forward(str(forward)) == forward


@pytest.mark.parametrize(
    ("text", "forward"),
    [
        ("8080:80", PortForward(8080, 80)),
        ("8080:80/tcp", PortForward(8080, 80)),
        ("53:53/udp", PortForward(53, 53, protocol=Protocol.UDP)),
        ("0.0.0.0:1:65535", PortForward(1, 65535, "0.0.0.0")),
        ("127.0.0.2:53:53/udp", PortForward(53, 53, "127.0.0.2", Protocol.UDP)),
    ],
)
def test_short_forms(text: str, forward: PortForward) -> None:
    assert parse_forward(text) == forward


@pytest.mark.parametrize(
    "text",
    [
        "",
        "80",
        ":",
        "80:",
        ":80",
        "0:80",
        "80:0",
        "-1:80",
        "65536:80",
        "80:65536",
        "080000:80",
        "8080:80/",
        "8080:80/sctp",
        "8080:80/UDP",
        "8080:80/udp/tcp",
        "1:2:3:4",
        "::1:80:80",
        "localhost:80:80",
        "127.0.0.256:80:80",
        "127.1:80:80",
        "٨٠:80",
        "80:80 ",
        "8_0:80",
        "80:80,hostfwd=tcp::1-:1",
        "9" * 300 + ":80",
    ],
)
def test_what_is_no_forward_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_forward(text)
    assert caught.value.code == "invalid-port"


@given(FORWARDS, FORWARDS)
def test_clashing_is_mutual(one: PortForward, other: PortForward) -> None:
    assert one.clashes(other) == other.clashes(one)


@pytest.mark.parametrize(
    ("one", "other", "clash"),
    [
        ("80:1", "80:2", True),
        ("80:1", "81:1", False),
        ("80:1", "80:1/udp", False),
        ("80:1", "127.0.0.2:80:1", False),
        ("80:1", "0.0.0.0:80:1", True),
    ],
)
def test_what_one_host_cannot_give_twice(one: str, other: str, clash: bool) -> None:
    forwards = (parse_forward(one), parse_forward("9999:9"), parse_forward(other))
    assert forwards[0].clashes(forwards[2]) is clash
    if clash:
        with pytest.raises(InvalidInput, match="want the same host port"):
            check_distinct(forwards)
    else:
        check_distinct(forwards)
