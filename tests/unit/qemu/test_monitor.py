from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from appcat.channel import LineChannel
from appcat.qemu.monitor import CommandRefused, Monitor, MonitorError, MonitorGone, MonitorSilent
from tests.unit.support.fake_peer import Conversation, FakePeer, Script
from tests.unit.support.qemu import connect, idle_argv, needs_qemu, spawned
from tests.unit.support.samples import UUID

AT_ONCE = 0.05


@pytest.fixture
def path(short: Path) -> Path:
    return short / "qmp.sock"


def after_greeting(script: Script) -> Script:
    def whole(peer: Conversation) -> None:
        peer.greet()
        script(peer)

    return whole


def sends(data: bytes) -> Script:
    """A peer that sends this and then waits."""

    def script(peer: Conversation) -> None:
        peer.send_bytes(data)
        peer.wait_for_hang_up()

    return script


def answers_every(result: Any) -> Script:
    def script(peer: Conversation) -> None:
        peer.answer(peer.receive(), result)
        peer.wait_for_hang_up()

    return after_greeting(script)


def test_request_goes_out_in_qmp_spelling(path: Path) -> None:
    requests = []

    def script(peer: Conversation) -> None:
        requests.append(peer.receive())
        peer.answer(requests[0], {"done": True})

    with FakePeer(path, after_greeting(script)), Monitor(path) as monitor:
        assert monitor.execute("human-monitor-command", command_line="info", cpu_index=0) == {"done": True}
    assert requests == [
        {"execute": "human-monitor-command", "id": 1, "arguments": {"command-line": "info", "cpu-index": 0}}
    ]


def test_events_between_request_and_answer_are_kept_in_order(path: Path) -> None:
    def script(peer: Conversation) -> None:
        request = peer.receive()
        peer.send({"event": "STOP"})
        peer.send({"event": "RESUME"})
        peer.answer(request, "answer")
        peer.send({"event": "SHUTDOWN"})
        peer.wait_for_hang_up()

    with FakePeer(path, after_greeting(script)), Monitor(path) as monitor:
        assert monitor.execute("cont") == "answer"
        assert [monitor.next_event(10)["event"] for _ in range(3)] == ["STOP", "RESUME", "SHUTDOWN"]
        with pytest.raises(MonitorSilent):
            monitor.next_event(AT_ONCE)


def test_event_during_the_negotiation_is_kept(path: Path) -> None:
    def script(peer: Conversation) -> None:
        peer.send({"QMP": {}})
        request = peer.receive()
        peer.send({"event": "RESUME"})
        peer.answer(request, {})
        peer.wait_for_hang_up()

    with FakePeer(path, script), Monitor(path) as monitor:
        assert monitor.next_event(10) == {"event": "RESUME"}


def test_refusal_carries_qemus_own_words_and_the_monitor_goes_on(path: Path) -> None:
    def script(peer: Conversation) -> None:
        request = peer.receive()
        peer.send({"error": {"class": "CommandNotFound", "desc": "no such command"}, "id": request["id"]})
        peer.answer(peer.receive(), "fine")

    with FakePeer(path, after_greeting(script)), Monitor(path) as monitor:
        with pytest.raises(CommandRefused) as caught:
            monitor.execute("frobnicate")
        assert monitor.execute("query-status") == "fine"
    assert caught.value.error_class == "CommandNotFound"
    assert caught.value.message == "QEMU refused frobnicate: no such command"
    assert caught.value.code == "monitor-refused"


def test_late_answer_is_not_taken_for_the_next_commands(path: Path) -> None:
    def script(peer: Conversation) -> None:
        first, second = peer.receive(), peer.receive()
        peer.answer(first, "late")
        peer.answer(second, "right")

    with FakePeer(path, after_greeting(script)), Monitor(path) as monitor:
        with pytest.raises(MonitorSilent):
            monitor.execute("slow", timeout=AT_ONCE)
        assert monitor.execute("quick") == "right"


def test_answer_in_small_pieces_and_a_long_one(path: Path) -> None:
    def script(peer: Conversation) -> None:
        peer.receive()
        for byte in b'{"return": "pieces", "id": 1}\r\n':
            peer.send_bytes(bytes([byte]))
        peer.answer(peer.receive(), "x" * 300_000)

    with FakePeer(path, after_greeting(script)), Monitor(path) as monitor:
        assert monitor.execute("one") == "pieces"
        assert monitor.execute("two") == "x" * 300_000


def test_no_greeting_means_silent(path: Path) -> None:
    with FakePeer(path, Conversation.wait_for_hang_up), pytest.raises(MonitorSilent) as caught:
        Monitor(path, timeout=AT_ONCE)
    assert caught.value.code == "monitor-silent"
    assert "kill" in caught.value.hint


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b'{"hello": "world"}\n', "does not speak QMP"),
        (b"SSH-2.0-dropbear\r\n", "not JSON"),
        (b"\xff\xfe\n", "not JSON"),
        (b"[1, 2]\n", "not an object"),
    ],
)
def test_who_speaks_something_else_is_told_apart(path: Path, data: bytes, complaint: str) -> None:
    with FakePeer(path, sends(data)), pytest.raises(MonitorError, match=complaint):
        Monitor(path)


def test_garbage_in_place_of_an_answer(path: Path) -> None:
    def script(peer: Conversation) -> None:
        peer.receive()
        peer.send_bytes(b"garbage\n")

    with FakePeer(path, after_greeting(script)), Monitor(path) as monitor, pytest.raises(MonitorError, match="garbage"):
        monitor.execute("query-status")


def test_hang_up_in_the_middle_of_an_answer(path: Path) -> None:
    def script(peer: Conversation) -> None:
        peer.receive()
        peer.send_bytes(b'{"return": ')

    with FakePeer(path, after_greeting(script)), Monitor(path) as monitor, pytest.raises(MonitorGone) as caught:
        monitor.execute("query-status")
    assert caught.value.code == "monitor-gone"


def test_line_without_an_end_is_given_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LineChannel, "LONGEST_LINE", 1 << 17)
    with FakePeer(path, sends(b"x" * (1 << 17) + b"x")), pytest.raises(MonitorGone, match="an endless line"):
        Monitor(path)


def nobody_listens(path: Path) -> None:
    with FakePeer(path):
        pass


@pytest.mark.parametrize("prepare", [lambda _path: None, nobody_listens, Path.touch])
def test_nobody_at_the_socket(path: Path, prepare: Any) -> None:
    prepare(path)
    with pytest.raises(MonitorGone):
        Monitor(path)


def test_path_too_long_for_a_socket(short: Path) -> None:
    with pytest.raises(MonitorGone, match="too long"):
        Monitor(short / ("x" * 108))


@needs_qemu
def test_real_qemu_serves_one_client_at_a_time(path: Path) -> None:
    with spawned(idle_argv(UUID, path), path.with_name("log")):
        with connect(path) as monitor:
            assert monitor.execute("query-status")["status"] == "prelaunch"
            with pytest.raises(MonitorSilent):
                Monitor(path, timeout=AT_ONCE)
        with Monitor(path) as next_one:
            assert next_one.execute("query-uuid") == {"UUID": UUID}


@needs_qemu
def test_real_qemu_serves_three_monitors_at_once_and_says_why_it_ends(path: Path) -> None:
    paths = [path, path.with_name("status.sock"), path.with_name("events.sock")]
    with spawned(idle_argv(UUID, *paths), path.with_name("log")) as qemu, ExitStack() as stack:
        commands, looks, events = (stack.enter_context(connect(each)) for each in paths)
        with pytest.raises(CommandRefused) as caught:
            commands.execute("frobnicate")
        assert caught.value.error_class == "CommandNotFound"
        assert looks.execute("query-status")["running"] is False
        commands.execute("quit")
        event = events.next_event(20)
        assert (event["event"], event["data"]["reason"]) == ("SHUTDOWN", "host-qmp-quit")
        assert qemu.wait(20) == 0
        with pytest.raises(MonitorGone):
            looks.execute("query-status")


def test_arguments_can_be_sent_as_they_are(path: Path) -> None:
    requests = []

    def script(peer: Conversation) -> None:
        requests.append(peer.receive())
        peer.answer(requests[0], {})

    with FakePeer(path, after_greeting(script)), Monitor(path) as monitor:
        assert monitor.ask("device_add", {"driver": "virtio-net-pci", "host_mtu": 1500}) == {}
    assert requests[0]["arguments"] == {"driver": "virtio-net-pci", "host_mtu": 1500}
