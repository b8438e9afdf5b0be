"""The receiving side is a script here; real states are moved by the tests of clones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appcat.qemu import migration
from appcat.qemu.migration import MigrationFailed, Precopy
from appcat.qemu.monitor import Monitor
from tests.unit.support.fake_peer import Conversation, FakePeer

Answers = dict[str, list[Any]]


def saying(answers: Answers, seen: list[str]) -> Callable[[Conversation], None]:
    """A QEMU that answers each command with the next of its answers, the last one again and again; {} by default."""

    def script(peer: Conversation) -> None:
        peer.greet()
        while True:
            try:
                request = peer.receive()
            except ValueError:  # hung up
                return
            name = str(request["execute"])
            seen.append(name)
            known = answers.get(name, [{}])
            peer.answer(request, known.pop(0) if len(known) > 1 else known[0])

    return script


def test_precopy_takes_stock_only_while_the_guest_stands_still(short: Path) -> None:
    seen: list[str] = []
    answers = {"query-migrate": [{"status": "setup"}, {"status": "active"}]}
    with FakePeer(short / "q", saying(answers, seen)), Monitor(short / "q") as monitor:
        assert Precopy(monitor).start("unix:/x", 5.0) >= 0
    assert seen.index("stop") < seen.index("migrate") < seen.index("cont")
    assert seen[seen.index("migrate") : seen.index("cont")].count("query-migrate") == 2


def test_guest_goes_on_when_the_copy_cannot_begin(short: Path) -> None:
    seen: list[str] = []

    def refusing(peer: Conversation) -> None:
        peer.greet()
        for _ in range(3):
            request = peer.receive()
            seen.append(request["execute"])
            peer.answer(request, {})
        request = peer.receive()
        peer.send({"error": {"class": "GenericError", "desc": "no"}, "id": request["id"]})
        request = peer.receive()
        seen.append(request["execute"])
        peer.answer(request, {})

    with FakePeer(short / "q", refusing), Monitor(short / "q") as monitor, pytest.raises(migration.CommandRefused):
        Precopy(monitor).start("unix:/x", 5.0)
    assert seen[-2:] == ["stop", "cont"]


@pytest.mark.parametrize(
    ("answer", "left"),
    [
        ({"status": "active", "ram": {"remaining": 7}}, 7),
        ({"status": "pre-switchover", "ram": {"remaining": 7}}, 0),
        ({"status": "failed"}, 0),
    ],
)
def test_what_is_left_to_copy(short: Path, answer: dict[str, Any], left: int) -> None:
    with FakePeer(short / "q", saying({"query-migrate": [answer]}, [])), Monitor(short / "q") as monitor:
        assert Precopy(monitor).left() == left


def test_failure_is_told_in_qemus_words(short: Path) -> None:
    answers = {"query-migrate": [{"status": "active"}, {"status": "failed", "error-desc": "out of luck"}]}
    with (
        FakePeer(short / "q", saying(answers, [])),
        Monitor(short / "q") as monitor,
        pytest.raises(MigrationFailed, match="out of luck"),
    ):
        migration.await_status(monitor, "completed", 5.0)


def test_wait_ends(short: Path) -> None:
    with (
        FakePeer(short / "q", saying({"query-migrate": [{"status": "active"}]}, [])),
        Monitor(short / "q") as monitor,
        pytest.raises(MigrationFailed, match="longer than"),
    ):
        migration.await_status(monitor, "completed", 0.05)


@pytest.mark.parametrize(("status", "cancels"), [("active", True), ("completed", False), ("none", False)])
def test_only_what_is_under_way_is_called_off(short: Path, status: str, cancels: bool) -> None:
    seen: list[str] = []
    answers = {"query-migrate": [{"status": status}, {"status": "cancelled"}]}
    with FakePeer(short / "q", saying(answers, seen)), Monitor(short / "q") as monitor:
        migration.call_off(monitor, 5.0)
    assert ("migrate_cancel" in seen) is cancels


def test_a_source_goes_on_only_when_its_migration_is_finalized(short: Path) -> None:
    """QEMU 7.2 says "completed" first, and refuses ``cont`` as long as it is in ``finish-migrate``."""
    seen: list[str] = []
    answers: Answers = {"query-status": [{"status": "finish-migrate"}, {"status": "postmigrate"}]}
    with FakePeer(short / "q", saying(answers, seen)), Monitor(short / "q") as monitor:
        migration.go_on(monitor)
    assert seen[-3:] == ["query-status", "query-status", "cont"]
