from __future__ import annotations

import pytest

from appcat.errors import InvalidInput
from appcat.model.network import (
    MOST_NETWORKS,
    Joining,
    parse_joining,
    parse_joinings,
    parse_networks,
    parse_subnet,
)


@pytest.mark.parametrize(
    ("text", "joining"),
    [("lab", Joining("lab")), ("lab:10.77.0.9", Joining("lab", "10.77.0.9"))],
)
def test_joining_is_read_as_it_is_written(text: str, joining: Joining) -> None:
    assert parse_joining(text) == joining
    assert str(joining) == text


@pytest.mark.parametrize("text", ["", "LAB", "lab:", "lab:10", "lab:10.77.0.256", "lab:host", "a b", "../x"])
def test_no_joining(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_joining(text)


@pytest.mark.parametrize(
    ("texts", "names"),
    [
        ([], []),
        (["none"], []),
        (["lab"], ["lab"]),
        (["lab", "default"], ["lab", "default"]),
        (["lab, default"], ["lab", "default"]),
    ],
)
def test_several_joinings(texts: list[str], names: list[str]) -> None:
    assert [joining.network for joining in parse_joinings(texts)] == names


def test_no_network_and_one_at_once() -> None:
    with pytest.raises(InvalidInput):
        parse_joinings(["lab", "none"])


@pytest.mark.parametrize(
    "text",
    ["lab:10.77.0.2", "lab,lab", "", ",", "lab,", ",".join(f"n{number}" for number in range(MOST_NETWORKS + 1))],
)
def test_what_new_vms_cannot_all_be_on(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_networks(text)


def test_what_new_vms_are_on() -> None:
    assert parse_networks("lab,default") == (Joining("lab"), Joining("default"))
    assert parse_networks("none") == ()


@pytest.mark.parametrize("text", ["10.77.0.0/24", "172.16.0.0/16", "192.168.8.0/29"])
def test_subnets(text: str) -> None:
    assert parse_subnet(text) == text


@pytest.mark.parametrize(
    "text",
    ["", "10.77.0.0", "10.77.0.1/24", "10.0.0.0/8", "10.77.0.0/30", "8.8.8.0/24", "172.32.0.0/16", "fd00::/64", "x/24"],
)
def test_no_subnets(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_subnet(text)
    assert caught.value.code == "invalid-subnet"
