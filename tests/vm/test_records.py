"""Events and operations of real vms: what one process does another one sees, and may call off."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cat import PATIENCE, Cat, wait_until
from tests.conftest import cat_in, new_home

pytestmark = [pytest.mark.vm, pytest.mark.xdist_group("records")]


@pytest.fixture(scope="module")
def home(cache: Path, request: pytest.FixtureRequest) -> Iterator[Cat]:
    """A home with a running vm ``web``."""
    for cat in cat_in(new_home(), cache, request):
        cat("vm", "run", "web", "--memory", "128M")
        yield cat


def events(cat: Cat, *options: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in cat("events", "--json", *options).splitlines()]


def last_id(cat: Cat) -> int:
    return int(events(cat, "--tail", "1")[0]["id"])


def kinds(found: list[dict[str, Any]]) -> list[str]:
    return [event["kind"] for event in found]


def since(cat: Cat, before: int, *options: str) -> list[dict[str, Any]]:
    return events(cat, "--since", str(before), "--filter", "kind=[!o]*", *options)


def operations(cat: Cat, *options: str) -> list[dict[str, Any]]:
    return list(json.loads(cat("operation", "list", "--json", *options)))


def running(cat: Cat, verb: str) -> str:
    """The id of the operation that does ``verb`` now, once it does."""
    found: list[str] = []

    def look() -> bool:
        found[:] = [one["id"] for one in operations(cat, "--state", "running") if one["verb"] == verb]
        return bool(found)

    wait_until(look, timeout=PATIENCE, what=f"an operation {verb}")
    return found[0]


def test_what_the_command_line_does_is_told_in_order(home: Cat) -> None:
    first = events(home)
    assert [event["id"] for event in first] == list(range(1, len(first) + 1))
    assert kinds(first) == ["operation.started", "vm.created", "vm.started", "vm.ready", "operation.ended"]
    assert {event["uuid"] for event in first[1:4]} == {home.show("web")["uuid"]}
    before = last_id(home)
    home("vm", "pause", "web")
    home("vm", "unpause", "web")
    home("vm", "label", "web", "role=test")
    home("vm", "clone", "web", "one", "two")
    home("vm", "delete", "--force", "one", "two")
    found = since(home, before)
    assert kinds(found)[:5] == ["vm.paused", "vm.unpaused", "vm.labelled", "vm.created", "vm.created"]
    for name in ("one", "two"):
        assert kinds([event for event in found if event["vm"] == name]) == [
            "vm.created",
            "vm.started",
            "vm.ready",
            "vm.stopped",
            "vm.deleted",
        ]
    (cloned,) = (event for event in found if event["kind"] == "vm.cloned")
    assert (cloned["vm"], cloned["detail"]["names"], cloned["detail"]["kind"]) == ("web", ["one", "two"], "instant")
    (clone,) = (one for one in operations(home) if one["verb"] == "clone")
    assert (clone["state"], clone["vms"], clone["result"]["clones"]) == (
        "succeeded",
        ["web", "one", "two"],
        ["one", "two"],
    )


def test_ready_is_told_once_whoever_waits(home: Cat) -> None:
    before = last_id(home)
    home("vm", "restart", "web", "--force")
    home("vm", "start", "web")
    home("vm", "wait", "web")
    assert kinds(since(home, before)) == ["vm.stopped", "vm.started", "vm.ready", "vm.restarted"]


def test_an_end_from_outside_is_told_once_and_its_restart(home: Cat) -> None:
    home("vm", "edit", "web", "--restart", "on-failure")
    before = last_id(home)
    os.kill(home.run_record("web")["pid"], signal.SIGKILL)
    wait_until(lambda: "vm.restarted" in kinds(since(home, before)), timeout=PATIENCE, what="a restart")
    home("vm", "start", "web")
    home("vm", "edit", "web", "--restart", "no")
    found = since(home, before)
    assert kinds(found) == ["vm.stopped", "vm.started", "vm.restarted", "vm.ready", "vm.edited"]
    assert found[0]["detail"]["cause"] == "killed"
    assert found[2]["detail"] == {"by": "policy", "policy": "on-failure"}
    assert [one["origin"] for one in operations(home) if one["verb"] == "start"][-2:] == ["keeper", "cli"]


def test_a_start_that_waits_for_its_guest_is_called_off(home: Cat) -> None:
    """A guest whose processors stand still never answers."""
    home("vm", "pause", "web")
    try:
        waiting = home.popen("vm", "start", "web", "--timeout", "600", "--json")
        identifier = running(home, "start")
        wait_until(
            lambda: json.loads(home("operation", "show", identifier, "--json"))["step"].startswith("waiting"),
            what="its wait for the guest",
        )
        home("operation", "cancel", identifier)
        out, err = waiting.communicate(timeout=PATIENCE)
        assert (waiting.returncode, json.loads(err.splitlines()[-1])["code"]) == (4, "cancelled"), (out, err)
        assert home.fails("cancelled", "operation", "wait", "--json", identifier)
        assert home.fails("operation-ended", "operation", "cancel", "--json", identifier)
        assert home.status("web") == "paused"
    finally:
        home("vm", "unpause", "web")
    assert home("vm", "exec", "web", "--", "echo", "well") == "well\n"


def test_a_command_that_is_killed_is_lost_and_one_that_is_interrupted_is_cancelled(home: Cat) -> None:
    home("vm", "pause", "web")
    try:
        for number, state in ((signal.SIGKILL, "lost"), (signal.SIGINT, "cancelled")):
            waiting = home.popen("vm", "start", "web", "--timeout", "600")
            identifier = running(home, "start")
            waiting.send_signal(number)
            waiting.communicate(timeout=PATIENCE)
            assert json.loads(home("operation", "show", identifier, "--json"))["state"] == state
        assert operations(home, "--state", "running") == []
    finally:
        home("vm", "unpause", "web")


def test_following_from_another_process(home: Cat) -> None:
    before = last_id(home)
    follower = home.popen("events", "--follow", "--json", "--since", str(before), "--filter", "vm=web,kind=vm.*")
    try:
        assert follower.stdout is not None
        for verb in ("pause", "unpause"):
            home("vm", verb, "web")
            event = json.loads(follower.stdout.readline())
            assert (event["kind"], event["vm"]) == (f"vm.{verb}d", "web")
        follower.send_signal(signal.SIGINT)
        assert follower.wait(PATIENCE) == 130
    finally:
        follower.kill()
        follower.communicate()


def test_a_build_is_called_off_and_leaves_no_image(home: Cat, cache: Path) -> None:
    building = home.popen("template", "build", "pico", "--json")
    identifier = running(home, "build")
    home("operation", "cancel", identifier)
    _, err = building.communicate(timeout=PATIENCE)
    assert json.loads(err.splitlines()[-1])["code"] == "cancelled", err
    assert list((cache / "images" / "staging").iterdir()) == []


def test_nobody_reads_the_events(home: Cat) -> None:
    program = subprocess.Popen(home.argv("events"), env=home.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert program.stdout is not None and program.stderr is not None
    program.stdout.close()
    assert program.stderr.read() == b""
    assert program.wait(PATIENCE) == 141


def test_a_home_of_before_has_none(cat: Cat) -> None:
    assert cat("events") == ""
    assert operations(cat) == []
    cat.fails("operation-not-found", "operation", "show", "--json", "nosuch")
    assert not cat.home.exists() or list(cat.home.iterdir()) == []


def test_a_stop_is_an_operation_too(home: Cat) -> None:
    home("vm", "stop", "web")
    (stop,) = (one for one in operations(home) if one["verb"] == "stop")
    assert stop["result"] == {"changed": True}
    assert stop["created"] < stop["ended"]
    assert events(home, "--tail", "1")[0]["detail"]["state"] == "succeeded"
