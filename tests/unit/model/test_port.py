from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appcat.errors import InvalidInput
from appcat.model.port import OWN, PortForward, Protocol, check_distinct, own_forward, parse_forward

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
        ("80", own_forward(80)),
        ("53/udp", own_forward(53, Protocol.UDP)),
    ],
)
def test_short_forms(text: str, forward: PortForward) -> None:
    assert parse_forward(text) == forward


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/udp",
        "0",
        "65536",
        "own",
        "80/",
        "own:80:80",
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


NUMBERS = st.builds(own_forward, PORTS, st.sampled_from(Protocol))


@given(NUMBERS)
def test_a_number_reads_back(forward: PortForward) -> None:
    assert parse_forward(str(forward)) == forward


@given(NUMBERS, st.integers(0, 65536))
def test_places_of_a_number_are_on_the_address_and_lead_to_it(forward: PortForward, low: int) -> None:
    places = forward.places("127.77.3.4", low)
    assert {(place.address, place.guest, place.protocol) for place in places} == {
        ("127.77.3.4", forward.guest, forward.protocol)
    }
    assert forward.guest in {place.host for place in places}
    assert all(1 <= place.host <= 65535 for place in places)
    assert (len(places) == 2) is (forward.guest < low and forward.guest + 20000 <= 65535)


@pytest.mark.parametrize(
    ("one", "other", "refused"),
    [
        ("80", "80", True),
        ("80", "80/udp", False),
        ("80", "81", False),
        ("80", "20080", True),
        ("2376", "22376", False),
        ("80", "8080:80", False),
        ("80", "0.0.0.0:80:80", False),
        ("80", "0.0.0.0:20080:80", True),
        ("2376", "0.0.0.0:2376:1", True),
        ("2376", "127.0.0.1:2376:1", False),
    ],
)
def test_what_one_address_cannot_give_twice(one: str, other: str, refused: bool) -> None:
    for pair in ((one, other), (other, one)):
        forwards = tuple(parse_forward(text) for text in pair)
        if refused:
            with pytest.raises(InvalidInput, match="want the same host port"):
                check_distinct(forwards)
        else:
            check_distinct(forwards)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("22", "is published already"),
        ("20022", "20022 and SSH want the same host port"),
        ("0.0.0.0:20022:80", "0.0.0.0:20022:80 and SSH want the same host port"),
    ],
)
def test_ports_of_ssh_are_taken(text: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        check_distinct((parse_forward(text),))


def test_without_an_address_it_is_the_given_ports_that_count() -> None:
    ssh = PortForward(23000, 22)
    check_distinct((PortForward(23001, 80, OWN), PortForward(23002, 20080, OWN), parse_forward("80:80")), ssh, "")
    with pytest.raises(InvalidInput, match="want the same host port"):
        check_distinct((PortForward(23001, 80, OWN), parse_forward("23001:80")), ssh, "")
