"""Daemon and vms: the keeper's duty changes hands, and no vm notices."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator

import pytest

from tests.cat import Cat, keepers_of, wait_until

pytestmark = pytest.mark.vm


@pytest.fixture
def served(cat: Cat) -> Iterator[Cat]:
    """A home with a running vm that is to be restarted when it dies."""
    cat("vm", "run", "web", "--restart", "on-failure")
    try:
        yield cat
    finally:
        cat.try_("daemon", "stop")


def daemon_pid(cat: Cat) -> int:
    return int(json.loads(cat("daemon", "start", "--json"))["pid"])


def keeper(cat: Cat) -> int | None:
    """Who keeps now."""
    running = json.loads(cat("keeper", "status", "--json"))["running"]
    return int(json.loads((cat.home / "keeper.lock").read_text())["pid"]) if running else None


def kill_vm_and_see_it_restarted(cat: Cat) -> None:
    (before,) = cat.qemus()
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: cat.qemus() not in ([], [before]), timeout=60, what="a restart")
    cat("vm", "wait", "web", "--for", "ready")


def test_keepers_duty_goes_to_the_daemon_and_back(served: Cat) -> None:
    on_demand = keeper(served)
    assert on_demand in keepers_of([served.home])
    (qemu,) = served.qemus()
    daemon = daemon_pid(served)
    assert keeper(served) == daemon and keepers_of([served.home]) == [daemon]
    kill_vm_and_see_it_restarted(served)
    (qemu,) = served.qemus()
    assert "restarting web" in served("vm", "logs", "web", "--source", "keeper")
    served("daemon", "stop")
    wait_until(lambda: keeper(served) not in (None, daemon), what="a keeper on demand")
    assert served.qemus() == [qemu] and served.status("web") == "running"
    kill_vm_and_see_it_restarted(served)


def test_killed_daemon_takes_no_vm_with_it(served: Cat) -> None:
    os.kill(daemon_pid(served), signal.SIGKILL)
    (qemu,) = served.qemus()
    wait_until(lambda: keeper(served) is None, what="the end of the daemon")
    assert served.list()["web"]["status"] == "running"  # and whoever looks starts a keeper
    wait_until(lambda: keeper(served) is not None, what="a keeper on demand")
    assert served.qemus() == [qemu]
    next_one = daemon_pid(served)
    assert keeper(served) == next_one and served.qemus() == [qemu]
