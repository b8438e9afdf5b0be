"""The daemon killed at any moment of anything: vms go on, and the next daemon tells the truth about them."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from appcat.client import Client
from appcat.errors import AppcatError
from appcat.guest.remote import Streams
from appcat.model.vm import CloneKind
from appcat.services.clone import CloneRequest
from appcat.services.create import CreateRequest
from appcat.services.edit import Changes
from tests.cat import Cat, wait_until
from tests.conftest import cat_in, new_home

pytestmark = [pytest.mark.vm, pytest.mark.xdist_group("daemon-faults")]

ROUNDS = int(os.environ.get("APPCAT_ROUNDS", "20"))
SEED = int(os.environ.get("APPCAT_SEED", "0")) or random.SystemRandom().randrange(1 << 30)
LONGEST = {"create": 0.5, "start": 3.0, "stop": 2.0, "restart": 4.0, "clone": 1.5, "delete": 0.5, "run": 3.0}
VERBS = (
    *("create", "start", "stop", "clone", "exec", "restart", "delete", "run", "edit", "disk", "kill", "pause"),
    *("flatten", "rename", "label", "port"),
)
STATES = ("running", "stopped", "paused")


@pytest.fixture(scope="module")
def home(cache: Path, request: pytest.FixtureRequest) -> Iterator[Cat]:
    for cat in cat_in(new_home(), cache, request):
        cat("daemon", "start")
        try:
            yield cat
        finally:
            cat.try_("daemon", "stop")


def daemon_of(cat: Cat) -> dict[str, Any]:
    return dict(json.loads(cat("daemon", "status", "--json")))


def client_of(cat: Cat) -> Client:
    return Client(daemon_of(cat)["addresses"][0])


def kill_daemon(cat: Cat) -> None:
    os.kill(int(daemon_of(cat)["pid"]), signal.SIGKILL)


@pytest.mark.soak
def test_kill_the_daemon_at_random_moments(home: Cat) -> None:
    """kill -9 in the middle of each kind of operation: the next daemon reports each vm as it is, and all can go on."""
    print(f"seed {SEED}")
    dice = random.Random(SEED)
    for number in range(ROUNDS):
        verb = VERBS[number % len(VERBS)]
        prepare(home, verb)
        client = client_of(home)
        asking = Asking(lambda verb=verb, client=client: do(client, verb))  # type: ignore[misc]
        time.sleep(dice.uniform(0.0, LONGEST.get(verb, 0.4)))
        kill_daemon(home)
        asking.join(60)
        assert not asking.is_alive(), f"{verb}: the client hangs after the daemon's end"
        assert asking.error is None or isinstance(asking.error, AppcatError), f"{verb}: {asking.error!r}"
        home("daemon", "start")
        check_truth(home, verb)
    home("vm", "delete", "--force", *home.list())
    home("daemon", "stop")
    wait_until(lambda: home.left_of_clones() == [], what=f"the end of {home.left_of_clones()}")
    home("daemon", "start")


class Asking(threading.Thread):
    """A request that may be cut off."""

    def __init__(self, call: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._call = call
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._call()
        except BaseException as error:  # judged by the test
            self.error = error


def prepare(cat: Cat, verb: str) -> None:
    """Bring ``web`` to where ``verb`` has something to do; ``made`` and ``late`` are not there."""
    have = cat.list()
    for name in {"made", "late", "copy", "copy2"} & set(have):
        cat("vm", "delete", "--force", name)
    if "web" not in have:
        cat("vm", "create", "web", "--disk", "64M")
    status = cat.status("web")
    if verb in ("start", "rename"):
        cat("vm", "kill", "web")
    elif status == "stopped":
        cat("vm", "start", "web")
    elif status == "paused":
        cat("vm", "unpause", "web")
    if verb not in ("start", "rename"):
        cat("vm", "wait", "web")
    if verb == "flatten":
        cat("vm", "clone", "web", "copy")


def do(client: Client, verb: str) -> object:
    """What is cut off."""
    nowhere = io.BytesIO()
    calls: dict[str, Callable[[], object]] = {
        "create": lambda: client.create(CreateRequest("made", disks=(("data", 1 << 26),))),
        "run": lambda: client.run(CreateRequest("late"), instant=True),
        "start": lambda: client.start("web"),
        "stop": lambda: client.stop("web"),
        "restart": lambda: client.restart("web", force=True),
        "clone": lambda: client.clone(CloneRequest("web", ("copy", "copy2"), CloneKind.INSTANT)),
        "flatten": lambda: client.flatten("copy"),
        "delete": lambda: client.delete("web", force=True),
        "edit": lambda: client.edit("web", Changes(autostart=True)),
        "label": lambda: client.label("web", {"round": str(time.time())}),
        "rename": lambda: client.rename("web", "late"),
        "disk": lambda: client.add_disk("web", f"d{time.time_ns() % 1_000_000}", 1 << 26),
        "port": lambda: client.stats(),
        "kill": lambda: client.kill("web"),
        "pause": lambda: client.pause("web"),
        "exec": lambda: client.execute("web", ["sleep", "5"], Streams(None, nowhere, nowhere)),
    }
    return calls[verb]()


def check_truth(cat: Cat, verb: str) -> None:
    """The list is right about every vm, no QEMU runs unseen, no lock is stuck, no operation runs for ever."""
    wait_until(lambda: all(vm["status"] != "busy" for vm in cat.list().values()), what=f"{verb}: the end of locks")
    found = cat.list()
    assert all(vm["status"] in STATES for vm in found.values()), (verb, found)
    alive = [name for name, vm in found.items() if vm["status"] != "stopped"]
    wait_until(lambda: len(cat.qemus()) == len(alive), what=f"{verb}: one QEMU each for {alive}: {cat.qemus()}")
    client = client_of(cat)
    assert {vm["name"] for vm in client.list_vms()} == set(found), verb
    going_on = [operation for operation in client.list_operations() if operation["state"] == "running"]
    assert going_on == [], (verb, going_on)
    if "web" not in found and "late" in found:  # renamed in time
        cat("vm", "kill", "late")
        cat("vm", "rename", "late", "web")


def test_stopping_the_daemon_leaves_vms_alone(home: Cat) -> None:
    prepare(home, "exec")
    pids = home.qemus()
    before = home.exec("web", "cat /proc/sys/kernel/random/boot_id")
    home("daemon", "stop")
    assert home.qemus() == pids
    home("daemon", "start")
    assert home.qemus() == pids
    assert home.exec("web", "cat /proc/sys/kernel/random/boot_id") == before
    assert [vm["status"] for vm in client_of(home).list_vms() if vm["name"] == "web"] == ["running"]
