"""Messages and descriptors between the switch and whoever asks it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appcat.switch import wire

VALUES = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def descriptors() -> int:
    """How many this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


@given(st.dictionaries(st.text(), VALUES))
def test_a_message_is_one_line_and_comes_back(message: dict[str, object]) -> None:
    line = wire.encode(message)
    assert line.count(b"\n") == 1
    assert wire.decode(line) == message


@pytest.mark.parametrize("line", [b"", b"[]", b"3", b"{", b"\xff"])
def test_what_is_no_object_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError):
        wire.decode(line)


@pytest.mark.parametrize("count", [0, 1, 10])
def test_descriptors_come_along(pair: tuple[socket.socket, socket.socket], tmp_path: Path, count: int) -> None:
    sent = [os.open(tmp_path / str(number), os.O_RDWR | os.O_CREAT) for number in range(count)]
    wire.send(pair[0], {"number": count, "long": "x" * 5000}, sent)
    wire.close(sent)
    message, received = wire.receive(pair[1])
    assert message == {"number": count, "long": "x" * 5000}
    assert [Path(f"/proc/self/fd/{descriptor}").readlink().name for descriptor in received] == list(
        map(str, range(count))
    )
    assert not any(os.get_inheritable(descriptor) for descriptor in received)
    wire.close(received)


def test_a_cut_message_leaves_no_descriptor_open(pair: tuple[socket.socket, socket.socket], tmp_path: Path) -> None:
    before = descriptors()
    descriptor = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    socket.send_fds(pair[0], [b'{"half":'], [descriptor])
    os.close(descriptor)
    pair[0].shutdown(socket.SHUT_WR)
    with pytest.raises(EOFError):
        wire.receive(pair[1])
    assert descriptors() == before
