"""Whatever text is given, a parser gives a value that formats back to the same meaning, or InvalidInput.

InvalidInput says what is wrong and what to write instead, in words a terminal can bear.
"""

from __future__ import annotations

import ipaddress
import string
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from appcat.errors import InvalidInput
from appcat.model.config import (
    KEYS,
    LONGEST_WAIT,
    find_key,
    parse_accelerator,
    parse_cpus,
    parse_restart,
    parse_seconds,
)
from appcat.model.name import check_label_key, check_name, parse_label
from appcat.model.port import LARGEST_PORT, PortForward, Protocol, parse_forward
from appcat.model.size import (
    LARGEST_DISK,
    LARGEST_MEMORY,
    MIB,
    SMALLEST_DISK,
    SMALLEST_MEMORY,
    parse_disk,
    parse_memory,
    parse_size,
)
from appcat.model.status import Status
from appcat.model.vm import check_disk_name
from appcat.services.filters import parse_filters
from appcat.store.layout import CREATE_PREFIX, DELETE_PREFIX

T = TypeVar("T")

# Anything at all, lone surrogates included (a shell passes odd bytes on so), and texts made of what parsers look for.
ANYTHING = st.text(st.characters(), max_size=60)
NEARLY = st.text(st.sampled_from(string.ascii_letters + string.digits + " \t\n\0-_.:,=/+*[]%~é１²\ud800"), max_size=40)
PIECES = st.lists(
    st.sampled_from([
        "1", "80", "65535", "65536", "0", "00080", ":", "/udp", "/tcp", "/", "127.0.0.1", "0.0.0.0", "256.1.1.1", "1.1",
        "512", "K", "M", "GiB", "tb", "999999999999", "=", ",", "name", "status", "label", "template", "running", "web",
        "data", "-", "*", " ", "\n",
    ]),
    max_size=6,
).map("".join)  # fmt: skip
TEXTS = ANYTHING | NEARLY | PIECES


def parsed(parse: Callable[[str], T], text: str) -> T | None:
    """The value, or None when it was refused as it should be; any other exception fails the test."""
    try:
        return parse(text)
    except InvalidInput as error:
        assert error.message
        assert error.message.isprintable()
        assert len(error.message) < 500
        assert error.hint
        assert error.hint.isprintable()
        error.message.encode("utf-8")
        return None


def size_text(size: int) -> str:
    """``size`` as exactly as it can be written."""
    for unit, scale in (("T", 40), ("G", 30), ("M", 20), ("K", 10)):
        if size % (1 << scale) == 0 and size:
            return f"{size >> scale}{unit}"
    return "0K"


@given(TEXTS)
@example("0M")
@example("9" * 12 + "T")
@example(" 1g ")
@example("1\u212a")  # the Kelvin sign
def test_sizes(text: str) -> None:
    size = parsed(parse_size, text)
    if size is not None:
        assert size >= 0
        assert parse_size(size_text(size)) == size


@given(TEXTS)
def test_memory(text: str) -> None:
    size = parsed(parse_memory, text)
    if size is not None:
        assert SMALLEST_MEMORY <= size <= LARGEST_MEMORY
        assert size % MIB == 0
        assert parse_memory(size_text(size)) == size


@given(st.integers(0, LARGEST_MEMORY * 2))
def test_memory_near_its_limits(kib: int) -> None:
    text = size_text(kib << 10)
    size = parsed(parse_memory, text)
    assert (size is None) is (
        not SMALLEST_MEMORY <= kib << 10 <= LARGEST_MEMORY or bool((kib << 10) % MIB) or len(text) > 13
    )


@given(TEXTS)
def test_disk_sizes(text: str) -> None:
    size = parsed(parse_disk, text)
    if size is not None:
        assert SMALLEST_DISK <= size <= LARGEST_DISK
        assert parse_disk(size_text(size)) == size


@given(TEXTS)
@example("80:80/")
@example("80:80/UDP")
@example("１:80")  # noqa: RUF001
@example("127.1:80:80")
@example("127.0.0.1\n:80:80")
@example("[::1]:80:80")
def test_ports(text: str) -> None:
    forward = parsed(parse_forward, text)
    if forward is not None:
        assert 1 <= forward.host <= LARGEST_PORT
        assert 1 <= forward.guest <= LARGEST_PORT
        assert forward.is_own or str(ipaddress.IPv4Address(forward.address)) == forward.address
        assert parse_forward(str(forward)) == forward


PORTS = st.integers(1, LARGEST_PORT)
FORWARDS = st.builds(PortForward, PORTS, PORTS, st.ip_addresses(v=4).map(str), st.sampled_from(Protocol))


@given(FORWARDS)
def test_every_forward_can_be_written(forward: PortForward) -> None:
    assert parse_forward(str(forward)) == forward


@given(FORWARDS, FORWARDS)
def test_clashes_are_mutual_and_every_forward_clashes_with_itself(one: PortForward, other: PortForward) -> None:
    assert one.clashes(other) is other.clashes(one)
    assert one.clashes(one)


@given(TEXTS)
@example(CREATE_PREFIX)
@example(DELETE_PREFIX)
@example("..")
def test_names(text: str) -> None:
    name = parsed(check_name, text)
    if name is not None:
        assert name == text == text.lower()
        assert not name.startswith((".", "-"))
        assert set(name) <= set(string.ascii_lowercase + string.digits + "-")


@given(TEXTS)
def test_disk_names(text: str) -> None:
    name = parsed(check_disk_name, text)
    if name is not None:
        assert name == text
        assert len(name.encode("ascii")) <= 20  # a virtio serial number
        assert not set(name) & set("/.\0 ,=")


@given(TEXTS)
@example("=")
@example("a=")
@example("a==")
def test_labels(text: str) -> None:
    label = parsed(parse_label, text)
    if label is not None:
        key, value = label
        assert f"{key}={value}" == text
        assert parse_label(f"{key}={value}") == label
        assert value.isprintable()
        assert check_label_key(key) == key


@given(TEXTS)
def test_label_keys(text: str) -> None:
    key = parsed(check_label_key, text)
    if key is not None:
        assert parse_label(f"{key}=x") == (key, "x")


@given(TEXTS)
@example("status=running,name=[")
@example("name=[z-a]")
@example("label==")
def test_filters(text: str) -> None:
    filters = parsed(lambda given: parse_filters([given]), text)
    if filters is not None:
        again = parse_filters([",".join(f"{one.key}={one.value}" for one in filters)])
        assert again == filters
        assert all(one.value in list(Status) for one in filters if one.key == "status")


@given(TEXTS)
def test_times(text: str) -> None:
    seconds = parsed(parse_seconds, text)
    if seconds is not None:
        assert 0.1 <= seconds <= LONGEST_WAIT
        assert parse_seconds(repr(seconds)) == seconds


@given(TEXTS)
def test_cpus(text: str) -> None:
    count = parsed(parse_cpus, text)
    if count is not None:
        assert count >= 1
        assert parse_cpus(str(count)) == count


@given(TEXTS)
@pytest.mark.parametrize("parse", [parse_restart, parse_accelerator])
def test_choices(parse: Callable[[str], Any], text: str) -> None:
    value = parsed(parse, text)
    if value is not None:
        assert str(value) == text


@given(TEXTS)
def test_keys(text: str) -> None:
    key = parsed(find_key, text)
    assert (key is not None) is (text in KEYS)


@given(TEXTS, st.sampled_from(sorted(KEYS)))
def test_checks_of_the_configuration(text: str, name: str) -> None:
    parsed(KEYS[name].check, text)
