"""The event log: many writers, cut-off writes, rotation, listeners."""

from __future__ import annotations

import json
import os
import resource
import signal
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appcat.errors import Unavailable
from appcat.model.event import Event, EventKind
from appcat.services.context import Context
from appcat.settings import Settings
from appcat.store import events as events_module
from appcat.store import locks
from appcat.store.events import EventLog, Listener, Lost
from appcat.store.files import make_private_directory
from appcat.store.layout import Layout
from tests.unit.support.processes import Child, fork_many

SMALL = 2000


@pytest.fixture
def log(ctx: Context) -> EventLog:
    return EventLog(ctx.layout)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments that hold about twenty events."""
    monkeypatch.setattr(events_module, "SEGMENT", SMALL)


def write(log: EventLog, count: int, **detail: object) -> list[Event]:
    return [log.append(EventKind.VM_STARTED, "web", "", detail) for _ in range(count)]


def ids(events: list[Event]) -> list[int]:
    return [event.id for event in events]


# --- writing and reading


def test_what_is_written_is_read(log: EventLog) -> None:
    detail = {"names": ["a", "b\n"], "stun": 0.5, "none": None, "text": "ü\x00\u2028"}
    written = [log.append(EventKind.VM_CLONED, "web", "a uuid", detail), log.append("of.tomorrow")]
    assert log.read(0, 10) == written
    assert ids(written) == [1, 2]
    assert written[0].time.endswith("Z") and len(written[0].time) == len("2026-11-25T22:15:00.123Z")
    assert written[0].detail == detail


def test_nothing_is_read_of_a_home_without_a_log(log: EventLog) -> None:
    assert (log.read(0, 10), log.last_id(), log.first_id(), log.mark()) == ([], 0, 1, None)
    assert not log.layout.events_lock.exists()


@given(after=st.integers(0, 45), limit=st.integers(0, 50))
def test_any_part_can_be_read(after: int, limit: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.getbasetemp() / "any-part"
    log = EventLog(Layout(Settings(home, home, home / "run", home)))
    if not home.exists():
        make_private_directory(home)
        write(log, 45)
    assert ids(log.read(after, limit)) == list(range(1, 46))[after : after + limit]


def test_files_are_for_this_user_alone(log: EventLog) -> None:
    write(log, 1)
    assert {path.stat().st_mode & 0o777 for path in (log.layout.events, log.layout.events_lock)} == {0o600}


def test_each_append_is_another_mark(log: EventLog) -> None:
    marks = {log.mark()}
    for _ in range(3):
        write(log, 1)
        marks.add(log.mark())
    assert len(marks) == 4


def test_a_detail_that_is_too_long_is_left_out(log: EventLog) -> None:
    write(log, 1, text="x" * 100_000)
    (found,) = log.read(0)
    assert list(found.detail) == ["omitted"]
    assert log.layout.events.stat().st_size < 1000


# --- rotation


def test_ids_go_on_after_rotations_and_the_log_stays_bounded(log: EventLog, small: None) -> None:
    for number in range(1, 200):
        (event,) = write(log, 1)
        assert event.id == number
        kept = ids(log.read(log.first_id() - 1, 1000))
        assert kept == list(range(log.first_id(), number + 1))
        assert all(path.stat().st_size <= SMALL for path in log.layout.home.glob("events.jsonl*"))
    assert log.first_id() > 100
    assert log.read(0, 1)[0].id == log.first_id()


def test_what_was_rotated_away_is_told(log: EventLog, small: None) -> None:
    write(log, 200)
    first = log.first_id()
    with pytest.raises(Lost) as caught:
        log.read(first - 2)
    assert (caught.value.first, caught.value.code) == (first, "events-lost")
    assert str(first - 1) in caught.value.hint
    assert log.read(first - 1)[0].id == first


def test_an_id_that_was_never_given_is_told(log: EventLog) -> None:
    write(log, 3)
    assert log.read(3) == []
    with pytest.raises(Lost) as caught:
        log.read(4)
    assert caught.value.first == 1


@pytest.mark.parametrize("gone", [["events.jsonl"], ["events.jsonl", "events.jsonl.1"]])
def test_ids_go_on_after_the_log_was_removed(log: EventLog, small: None, gone: list[str]) -> None:
    last = write(log, 100)[-1].id
    for name in gone:
        (log.layout.home / name).unlink()
    assert log.last_id() == last
    assert log.first_id() <= last + 1
    assert write(log, 1)[0].id == last + 1


def test_ids_go_on_after_the_lock_was_removed(log: EventLog, small: None) -> None:
    last = write(log, 100)[-1].id
    log.layout.events_lock.unlink()
    assert write(log, 1)[0].id == last + 1


def test_ids_go_on_when_a_rotation_was_cut_off(log: EventLog) -> None:
    """Killed between renaming the full segment and beginning the next; and nobody noted the last id."""
    write(log, 5)
    log.layout.events.rename(log.layout.home / "events.jsonl.1")
    log.layout.events_lock.write_text("")
    assert ids(log.read(2)) == [3, 4, 5]
    assert write(log, 1)[0].id == 6
    assert ids(log.read(0)) == [1, 2, 3, 4, 5, 6]


# --- damage


@given(cut=st.integers(1, 140))
def test_a_line_without_its_end_is_no_event_and_is_cut_off(cut: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.mktemp("torn")
    log = EventLog(Layout(Settings(home, home, home / "run", home)))
    write(log, 3)
    content = log.layout.events.read_bytes()
    longest = len(content.splitlines(keepends=True)[-1])
    log.layout.events.write_bytes(content[: len(content) - min(cut, longest)])
    log.layout.events_lock.write_text("2")  # as it was before the write that was cut off
    assert ids(log.read(0)) == [1, 2]
    assert write(log, 1)[0].id == 3
    assert ids(log.read(0)) == [1, 2, 3]


@given(
    pieces=st.lists(
        st.one_of(
            st.binary(max_size=60), st.sampled_from([b"\n", b"{}\n", b'{"id":7}\n', b'{"id":"1"}\n', b"\0" * 5000])
        ),
        max_size=6,
    )
)
def test_no_content_breaks_a_reader_or_a_writer(pieces: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> None:
    home = tmp_path_factory.mktemp("damaged")
    log = EventLog(Layout(Settings(home, home, home / "run", home)))
    write(log, 2)
    with log.layout.events.open("ab") as file:
        file.write(b"".join(pieces))
    log.read(0)
    (event,) = write(log, 1)
    assert event.id > 2
    assert log.read(0)[-1] == event
    assert log.last_id() == event.id


def test_lines_of_a_newer_appcat_are_passed_over(log: EventLog) -> None:
    write(log, 1)
    with log.layout.events.open("a") as file:
        file.write(json.dumps({"schema": 99, "id": 2, "new": True}) + "\n")
    assert write(log, 1)[0].id == 3
    assert ids(log.read(0)) == [1, 3]


# --- what keeps it from being written


def test_a_full_disk_fails_nobody_and_leaves_no_half_line(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    write(log, 1)
    before = log.layout.events.read_bytes()
    real = os.write

    def full(descriptor: int, data: bytes) -> int:
        return real(descriptor, data[:20])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", full)
        assert write(log, 1)[0].id == 0
    assert log.layout.events.read_bytes() == before
    assert write(log, 1)[0].id == 2


def test_a_limit_on_file_sizes_fails_nobody(log: EventLog) -> None:
    """As a full disk, by the kernel itself."""

    def limited(_number: int) -> int:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (400, 400))
        return len([event for event in write(log, 10) if event.id])

    (written,) = fork_many(1, limited)
    assert 0 < written < 10
    assert ids(log.read(0)) == list(range(1, written + 1))
    assert write(log, 1)[0].id == written + 1


def test_a_home_that_is_gone_fails_nobody(ctx: Context, tmp_path: Path) -> None:
    gone = EventLog(Layout(Settings(tmp_path / "nowhere", tmp_path, tmp_path / "run", tmp_path)))
    assert write(gone, 1)[0].id == 0
    assert not (tmp_path / "nowhere").exists()


def test_a_directory_in_its_place_fails_nobody(log: EventLog) -> None:
    log.layout.events.mkdir()
    assert write(log, 1)[0].id == 0
    with pytest.raises(Unavailable):
        log.read(0)


def test_a_writer_that_stands_still_holds_nobody_up_for_long(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    write(log, 1)
    monkeypatch.setattr(events_module, "PATIENCE", 0.05)
    with locks.hold(log.layout.events_lock, "stand still"):
        assert write(log, 1)[0].id == 0
        assert len(log.read(0)) == 1


# --- several at once

WRITERS, EACH = 6, 40


def test_writers_and_readers_at_once(log: EventLog, small: None) -> None:
    """Every event has an id of its own, in the order of the log; who reads on misses none without being told."""

    def work(number: int) -> list[int]:
        if number < WRITERS:
            return [log.append(EventKind.VM_STARTED, f"vm-{number}").id for _ in range(EACH)]
        seen, after = [], 0
        while after < WRITERS * EACH:
            try:
                batch = ids(log.read(after, 7))
            except Lost as lost:
                after = lost.first - 1
                continue
            assert batch == list(range(after + 1, after + 1 + len(batch))) or after == 0
            after = batch[-1] if batch else after
            seen += batch
        return seen

    answers = fork_many(WRITERS + 2, work)
    given_ids = [number for answer in answers[:WRITERS] for number in answer]
    assert sorted(given_ids) == list(range(1, WRITERS * EACH + 1))
    assert all(answer == sorted(answer) for answer in answers)


def test_threads_of_one_process_share_it(log: EventLog) -> None:
    threads = [threading.Thread(target=write, args=(log, 25)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ids(log.read(0)) == list(range(1, 101))


KILLED = """
import sys, pathlib
from appcat.settings import Settings
from appcat.store.layout import Layout
from appcat.store.events import EventLog
home = pathlib.Path(sys.argv[1])
log = EventLog(Layout(Settings(home, home, home / "run", home)))
print("ready", flush=True)
while True:
    log.append("vm.started", "web", "", {"text": "x" * 3000})
"""


def test_killed_writers_leave_a_log_that_goes_on(log: EventLog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_module, "SEGMENT", 1 << 30)
    last = 0
    for _ in range(5):
        with Child(KILLED, log.layout.home) as child:
            assert child.read_line() == "ready"
            while log.last_id() < last + 20:
                pass
        found = ids(log.read(log.first_id() - 1, 100_000))
        assert found == list(range(found[0], found[-1] + 1))
        assert write(log, 1)[0].id == found[-1] + 1
        last = found[-1] + 1


# --- listeners


def test_a_listener_is_poked(log: EventLog) -> None:
    with Listener(log.layout) as listener:
        assert not listener.wait(0)
        write(log, 3)
        assert listener.wait(5)
        assert not listener.wait(0), "several pokes count as one"
        write(log, 1)
        assert listener.wait(5)
        assert listener.fileno() > 0
    assert not log.layout.events_listener.exists()


def test_a_listener_that_sleeps_holds_nobody_up(log: EventLog) -> None:
    with Listener(log.layout) as listener:
        assert ids(write(log, 2000))[-1] == 2000
        assert listener.wait(0)
        assert not listener.wait(0)


def test_a_listener_takes_the_place_of_a_dead_one(log: EventLog) -> None:
    dead = Listener(log.layout)
    os.close(os.dup(dead.fileno()))
    dead._socket.close()
    assert log.layout.events_listener.exists()
    write(log, 1)
    with Listener(log.layout) as listener:
        write(log, 1)
        assert listener.wait(5)
        dead.close()
        assert log.layout.events_listener.exists(), "it is not the dead one's any more"
        write(log, 1)
        assert listener.wait(5)


def test_a_runtime_directory_of_somebody_else_is_refused(log: EventLog) -> None:
    make_private_directory(log.layout.settings.runtime)
    log.layout.settings.runtime.chmod(0o777)
    with pytest.raises(Unavailable):
        Listener(log.layout)
