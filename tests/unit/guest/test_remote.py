"""A guest may stall at any moment; who waits for a command in it leaves in time all the same."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import paramiko
import pytest

from appcat.errors import DeadlineExceeded
from appcat.guest import remote
from tests.unit.support.ssh_server import GROUP, Guest, connected

# Below a second each, so that the limits and not the machine decide; the whole may take seconds on a crowded one.
LIMIT = 0.5
SECONDS = 10.0

Way = Callable[[paramiko.Transport, remote.Streams, "float | None"], int]


def plainly(transport: paramiko.Transport, streams: remote.Streams, deadline: float | None) -> int:
    return remote.run(transport, ["sleep", "1000"], streams, deadline)


def on_terminal(transport: paramiko.Transport, streams: remote.Streams, deadline: float | None) -> int:
    terminal = remote.Terminal("dumb", lambda: (80, 24))
    return remote.run_on_terminal(transport, ["sleep", "1000"], streams, terminal, deadline)


class Sink(io.BytesIO):
    """Tells when something was written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = threading.Event()

    def write(self, data: object) -> int:
        count = super().write(data)  # type: ignore[arg-type]
        self.written.set()
        return count


@pytest.fixture(autouse=True)
def _in_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(remote, "SIGNAL_PATIENCE", LIMIT)
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < SECONDS


@contextlib.contextmanager
def interrupted(after: threading.Event | None = None, *, target: int | None = None) -> Iterator[None]:
    """A SIGTERM that interrupts as appcat's do, sent by another thread; ``target`` is the thread that receives it."""

    def send() -> None:
        if after is not None:
            after.wait(SECONDS)
        time.sleep(LIMIT)
        signal.pthread_kill(target or threading.get_ident(), signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    try:
        yield
    finally:
        sender.join(SECONDS)
        assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
        signal.signal(signal.SIGTERM, before)


STALLS = [(plainly, "open"), (plainly, "exec"), (on_terminal, "open"), (on_terminal, "pty"), (on_terminal, "exec")]


@pytest.mark.parametrize(("way", "mute"), STALLS)
def test_deadline_of_a_command_that_never_starts(way: Way, mute: str) -> None:
    streams = remote.Streams(None, io.BytesIO(), io.BytesIO())
    with connected(Guest(mute)) as transport, pytest.raises(DeadlineExceeded, match="in the time it was given"):
        way(transport, streams, remote.deadline_in(LIMIT))


@pytest.mark.parametrize(("way", "mute"), STALLS)
def test_no_command_is_waited_for_without_end(way: Way, mute: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "START_PATIENCE", LIMIT)
    streams = remote.Streams(None, io.BytesIO(), io.BytesIO())
    with connected(Guest(mute)) as transport, pytest.raises(DeadlineExceeded, match="did not start"):
        way(transport, streams, None)


@pytest.mark.parametrize(("way", "mute"), STALLS)
def test_interrupt_of_a_command_that_never_starts(way: Way, mute: str) -> None:
    streams = remote.Streams(None, io.BytesIO(), io.BytesIO())
    with connected(Guest(mute)) as transport, interrupted(), pytest.raises(KeyboardInterrupt):
        way(transport, streams, None)


@pytest.mark.parametrize("target", ["the thread that waits", "another"])
def test_interrupt_ends_the_command(target: str) -> None:
    """A signal that does not wake the thread that waits is rare, unless another thread gets it."""
    guest, out = Guest(), Sink()
    thread = threading.main_thread().ident if target != "another" else None
    with connected(guest) as transport, interrupted(out.written, target=thread), pytest.raises(KeyboardInterrupt):
        plainly(transport, remote.Streams(None, out, io.BytesIO()), None)
    assert guest.killed == [f"kill -INT -- -{GROUP}"]
    assert out.getvalue() == b"started\n"


@pytest.mark.parametrize("mute", ["open", "kill"])
def test_interrupt_when_the_guest_stalls_after_the_start(mute: str) -> None:
    guest, out = Guest(), Sink()
    with connected(guest) as transport:
        with interrupted(out.written), pytest.raises(KeyboardInterrupt):
            threading.Thread(target=lambda: out.written.wait(SECONDS) and guest.stall(mute), daemon=True).start()
            plainly(transport, remote.Streams(None, out, io.BytesIO()), None)
        assert guest.killed == []


def test_deadline_ends_the_command_and_all_its_children() -> None:
    guest = Guest()
    with connected(guest) as transport, pytest.raises(DeadlineExceeded):
        plainly(transport, remote.Streams(None, io.BytesIO(), io.BytesIO()), remote.deadline_in(LIMIT))
    assert guest.killed == [f"kill -KILL -- -{GROUP}"]


def test_nobody_reads_any_more() -> None:
    guest = Guest()
    reader, writer = os.pipe()
    os.close(reader)
    with connected(guest) as transport, os.fdopen(writer, "wb", buffering=0) as out, pytest.raises(BrokenPipeError):
        plainly(transport, remote.Streams(None, out, io.BytesIO()), None)
    assert guest.killed == [f"kill -KILL -- -{GROUP}"]


def test_command_without_an_interrupt_gives_its_status() -> None:
    guest = Guest()
    with connected(guest) as transport:
        threading.Timer(LIMIT, lambda: guest.end(7)).start()
        assert plainly(transport, remote.Streams(None, io.BytesIO(), io.BytesIO()), None) == 7
        threading.Timer(LIMIT, lambda: guest.end(0)).start()
        assert on_terminal(transport, remote.Streams(None, io.BytesIO(), io.BytesIO()), None) == 0
    assert guest.killed == []
