from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from appcat.errors import DeadlineExceeded, GuestError
from appcat.qemu import agent as agent_module
from appcat.qemu.agent import Agent, AgentRefused
from tests.unit.support.fake_peer import Conversation, FakePeer, Script

AT_ONCE = 0.05


@pytest.fixture
def path(short: Path) -> Path:
    return short / "agent.sock"


def synchronise(peer: Conversation) -> None:
    request = peer.receive()
    assert request["execute"] == "guest-sync"
    peer.send({"return": request["arguments"]["id"]})


def answers(*messages: Any) -> Script:
    """An agent that synchronises, then gives these answers, one per request."""

    def script(peer: Conversation) -> None:
        synchronise(peer)
        for message in messages:
            peer.receive()
            peer.send(message)
        peer.wait_for_hang_up()

    return script


def test_what_an_earlier_client_left_is_dropped(path: Path) -> None:
    def script(peer: Conversation) -> None:
        peer.send_bytes(b'ome tail"}\n')
        peer.send({"return": {"pid": 7}}, {"return": 12345}, {"error": {"desc": "stale"}}, [])
        synchronise(peer)
        peer.receive()
        peer.send({"return": "fresh"})

    with FakePeer(path, script), Agent(path, timeout=10) as agent:
        assert agent.execute("guest-ping") == "fresh"


def test_half_a_request_of_an_earlier_client_is_cancelled_first(path: Path) -> None:
    said: list[bytes] = []

    def script(peer: Conversation) -> None:
        synchronise(peer)
        said.extend(peer.raw)

    with FakePeer(path, script), Agent(path, timeout=10):
        pass
    assert said[0].startswith(b'\xff{"execute": "guest-sync"')


def test_arguments_go_out_in_the_agents_spelling(path: Path) -> None:
    requests = []

    def script(peer: Conversation) -> None:
        synchronise(peer)
        requests.append(peer.receive())
        peer.send({"return": {"pid": 1}})

    with FakePeer(path, script), Agent(path, timeout=10) as agent:
        assert agent.execute("guest-exec", path="/bin/true", capture_output=True) == {"pid": 1}
    assert requests == [{"execute": "guest-exec", "arguments": {"path": "/bin/true", "capture-output": True}}]


def test_refusal_is_told_and_the_agent_goes_on(path: Path) -> None:
    refusal = {"error": {"class": "GenericError", "desc": "no such file"}}
    with FakePeer(path, answers(refusal, {"return": {}})), Agent(path, timeout=10) as agent:
        with pytest.raises(AgentRefused, match="the guest agent refused guest-exec: no such file") as caught:
            agent.execute("guest-exec")
        assert agent.execute("guest-ping") == {}
    assert caught.value.code == "agent-refused"


def test_silence_is_a_deadline_exceeded(path: Path) -> None:
    with FakePeer(path, Conversation.wait_for_hang_up), pytest.raises(DeadlineExceeded) as caught:
        Agent(path, timeout=AT_ONCE)
    assert "within 0.05 s" in caught.value.message


def test_silence_after_the_greeting_too(path: Path) -> None:
    with (
        FakePeer(path, answers()),
        Agent(path, timeout=10) as agent,
        pytest.raises(DeadlineExceeded),
    ):
        agent.execute("guest-ping", timeout=AT_ONCE)


def test_a_guest_that_boots_slowly_is_asked_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_module, "RESYNC_AFTER", AT_ONCE)
    scripts = (Conversation.wait_for_hang_up, answers({"return": "awake"}))
    with FakePeer(path, *scripts), Agent(path, timeout=20) as agent:
        assert agent.execute("guest-ping") == "awake"


def test_power_off_waits_for_no_answer(path: Path) -> None:
    requests = []

    def script(peer: Conversation) -> None:
        synchronise(peer)
        requests.append(peer.receive())

    with FakePeer(path, script), Agent(path, timeout=10) as agent:
        agent.shutdown()
    assert requests == [{"execute": "guest-shutdown", "arguments": {"mode": "powerdown"}}]


def test_missing_port_is_no_mere_silence(path: Path) -> None:
    with pytest.raises(GuestError) as caught:
        Agent(path, timeout=10)
    assert not isinstance(caught.value, DeadlineExceeded)
    assert caught.value.hint == "is the vm running?"


def test_hang_up_is_told(path: Path) -> None:
    with FakePeer(path, synchronise), Agent(path, timeout=10) as agent, pytest.raises(GuestError, match="is gone"):
        agent.execute("guest-ping")
