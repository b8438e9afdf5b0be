"""What may go wrong with clones, made to go wrong: kills at random moments, guests that hang, no room."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.cat import Cat, keepers_of, parallel, qemus_of, vm_directories, wait_until
from tests.conftest import cat_in, fill, new_home, small_home

pytestmark = [pytest.mark.vm, pytest.mark.xdist_group("clone-faults")]

ROUNDS = int(os.environ.get("APPCAT_ROUNDS", "20"))
SEED = int(os.environ.get("APPCAT_SEED", "0")) or random.SystemRandom().randrange(1 << 30)
# A number that is on the disk before the next begins; what is in /run/synced was there for certain.
COUNTER = """
cat > /run/counter <<'END'
while :; do
    i=$((${i:-$(cat /data/count 2>/dev/null || echo 10000000)} + 1))
    echo $i | dd of=/data/count conv=notrunc,fsync 2>/dev/null || exit
    echo $i > /run/synced.new
    mv /run/synced.new /run/synced
done
END
sh /run/counter > /dev/null 2>&1 < /dev/null &
"""


@pytest.fixture(scope="module")
def home(cache: Path, request: pytest.FixtureRequest) -> Iterator[Cat]:
    """A home with a running vm ``src`` that has a disk and counts on it."""
    for cat in cat_in(new_home(), cache, request):
        cat("vm", "run", "src", "--instant", "--disk", "64M")
        cat.exec("src", COUNTER)
        yield cat
        cat("vm", "stop", *cat.list())
        check_disks(cat)


def check_disks(cat: Cat) -> None:
    """Sound; a QEMU that was killed may have leaked clusters, which loses room but no data."""
    for disk in cat.disks():
        done = subprocess.run(["qemu-img", "check", disk], capture_output=True, text=True, check=False)
        assert done.returncode in (0, 3), (disk, done.stdout, done.stderr)


def synced(cat: Cat, least: int = 0) -> int:
    """The last number that the source has synced, once it is larger than ``least``."""
    return int(cat.exec("src", f'until n=$(cat /run/synced) && [ "$n" -gt {least} ]; do sleep 0.1; done; echo $n'))


def on_disk(cat: Cat, name: str) -> int:
    hostname, number = cat.exec(name, "hostname; cat /data/count").split()
    assert hostname == name
    return int(number)


def only_source_left(cat: Cat, name: str = "src") -> None:
    """No helper, base, memory, socket but those of the source."""

    record = cat.run_record(name)
    mine = str(record["uuid"]).replace("-", "")[:12]

    def extra() -> list[str]:
        left = [f"sockets {path}" for path in cat.sockets() if path.name != mine]
        left += [f"QEMU {pid}" for pid in cat.qemus() if pid != record["pid"]]
        return [*left, *(f"base {base}" for base in cat.bases()), *(f"memory {path}" for path in cat.frozen_memory())]

    deadline = time.monotonic() + 90
    while left := extra():
        assert time.monotonic() < deadline, left
        time.sleep(0.2)
    assert vm_directories(cat.home) == [name]


def not_busy(cat: Cat, name: str, *wanted: str) -> str:
    return cat.wait_status(name, *wanted, timeout=120)


def wake(cat: Cat) -> None:
    """Bring the source, cold if need be, to where it counts again."""
    if not_busy(cat, "src", "running", "stopped") == "stopped":
        cat("vm", "start", "src")
        cat.exec("src", COUNTER)


@dataclass
class Chaos:
    """Rounds of cloning in which somebody is killed; ``length`` is about how long an undisturbed one takes."""

    cat: Cat
    dice: random.Random
    length: float = 0.0
    names: list[str] = field(default_factory=lambda: ["k1", "k2"])

    def __post_init__(self) -> None:
        print(f"seed {SEED}")
        if left := [name for name in self.cat.list() if name != "src"]:  # of a test that failed
            self.cat("vm", "delete", "--force", *left)
        begun = time.monotonic()
        self.cat("vm", "clone", "src", *self.names, "--instant")
        self.length = time.monotonic() - begun
        self.cat("vm", "delete", "--force", *self.names)

    def begin(self) -> subprocess.Popen[str]:
        return self.cat.popen("vm", "clone", "src", *self.names, "--instant", "--json", start_new_session=True)

    def sleep(self) -> None:
        """Until some moment in which the command is at work; bare Python takes the beginning of it."""
        time.sleep(self.dice.uniform(0.15, 1.0) * self.length)

    def check_clones(self, least: int) -> None:
        """Every clone there is can be used, or started, or deleted; its disk has what was synced before the round."""
        statuses = {name: vm["status"] for name, vm in self.cat.list().items() if name != "src"}
        for name, status in statuses.items():
            if status not in ("running", "stopped"):
                status = not_busy(self.cat, name, "running", "stopped")
            if status == "stopped" and self.dice.random() < 0.1:
                self.cat("vm", "start", name)
                status = "running"
            if status == "running":
                assert on_disk(self.cat, name) >= least
        if statuses:
            self.cat("vm", "delete", "--force", *statuses)


@pytest.mark.soak
def test_kill_the_command_at_random_moments(home: Cat) -> None:
    """The source goes on, or, when its QEMU is killed right after, can be started; it loses nothing it has synced."""
    chaos = Chaos(home, random.Random(SEED))
    for number in range(ROUNDS):
        least = synced(home)
        victim = chaos.begin()
        chaos.sleep()
        victim.kill()
        victim.communicate()
        if number % 5 == 4:
            os.kill(home.run_record("src")["pid"], signal.SIGKILL)
            not_busy(home, "src", "stopped")
            wake(home)
            assert on_disk(home, "src") >= least
        else:
            not_busy(home, "src", "running")
            synced(home, least)
        chaos.check_clones(least)
        only_source_left(home)


@pytest.mark.soak
def test_kill_the_source_while_it_is_cloned(home: Cat) -> None:
    """The command ends with a reason, or had done its work; the source can be started and has all it had synced."""
    chaos = Chaos(home, random.Random(SEED + 1))
    for _ in range(max(5, ROUNDS // 4)):
        least = synced(home)
        command = chaos.begin()
        chaos.sleep()
        os.kill(home.run_record("src")["pid"], signal.SIGKILL)
        _, errors = command.communicate(timeout=240)
        assert "Traceback" not in errors, errors
        assert command.returncode == 0 or json.loads(errors.splitlines()[-1])["message"], errors
        not_busy(home, "src", "stopped")
        chaos.check_clones(least)
        wake(home)
        assert on_disk(home, "src") >= least
        only_source_left(home)


@pytest.mark.soak
def test_kill_the_other_qemus_of_a_clone_command(home: Cat) -> None:
    """The receiver, or the clone to be: what fails says so, what was made is whole, the source goes on."""
    chaos = Chaos(home, random.Random(SEED + 2))
    for number in range(max(5, ROUNDS // 4)):
        least = synced(home)
        known = set(home.qemus())
        command = chaos.begin()
        found: list[int] = []
        while len(found) <= number % 3 and command.poll() is None:
            found += [pid for pid in qemus_of(home.home) if pid not in known and pid not in found]
            time.sleep(0.01)
        time.sleep(chaos.dice.uniform(0.0, 0.1 * chaos.length))
        if found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(found[-1], signal.SIGKILL)
        _, errors = command.communicate(timeout=240)
        assert "Traceback" not in errors, errors
        assert home.status("src") == "running"
        synced(home, least)
        chaos.check_clones(least)
        only_source_left(home)


@pytest.mark.soak
def test_interrupt_at_random_moments(home: Cat) -> None:
    """As kill -9, but all is put right at once."""
    chaos = Chaos(home, random.Random(SEED + 3))
    for _ in range(max(5, ROUNDS // 4)):
        least = synced(home)
        command = chaos.begin()
        chaos.sleep()
        os.killpg(command.pid, signal.SIGINT)
        _, errors = command.communicate(timeout=240)
        assert "Traceback" not in errors, errors
        if command.returncode == -signal.SIGINT:  # Python did not listen yet, or not any more
            assert errors == ""
        else:
            assert command.returncode in (0, 130), errors
        assert home.status("src") == "running"
        assert not (home.home / "vms" / "src" / "freezing").exists()
        synced(home, least)
        chaos.check_clones(least)
        only_source_left(home)


def test_several_clone_one_source_at_the_same_time(home: Cat) -> None:
    done = parallel(home, [["vm", "clone", "src", f"at-once-{number}", "--instant"] for number in range(3)])
    assert [one.stderr for one in done if one.returncode] == []
    for number in range(3):
        assert home("vm", "exec", f"at-once-{number}", "--", "hostname") == f"at-once-{number}\n"
    home("vm", "delete", "--force", *(f"at-once-{number}" for number in range(3)))
    only_source_left(home)


def test_one_name_for_two_commands(home: Cat) -> None:
    done = parallel(home, [["vm", "clone", "src", "wanted", "--instant", "--json"]] * 2)
    assert sorted(one.returncode for one in done) == [0, 4], [one.stderr for one in done]
    assert not any("Traceback" in one.stderr for one in done)
    assert home("vm", "exec", "wanted", "--", "hostname") == "wanted\n"
    home("vm", "delete", "--force", "wanted")
    only_source_left(home)


def test_guest_program_that_hangs(home: Cat) -> None:
    home.exec("src", "kill -STOP $(pidof appcat-guest)")
    try:
        error = home.fails("deadline-exceeded", "vm", "clone", "--json", "src", "never", "--instant")
        assert "guest program" in error["message"]
        assert error["hint"]
        assert list(home.list()) == ["src"]
        synced(home, synced(home))
        only_source_left(home)
    finally:
        home.exec("src", "kill -CONT $(pidof appcat-guest)")
    home("vm", "clone", "src", "now", "--instant", "--verify")
    home("vm", "delete", "--force", "now")
    only_source_left(home)


def test_state_of_another_qemu(home: Cat) -> None:
    record = home.home / "vms" / "src" / "run.json"
    kept = record.read_text()
    try:
        for key, value in {"qemu_version": "6.2.0", "cpu": "qemu64", "accelerator": "kvm"}.items():
            record.write_text(json.dumps({**json.loads(kept), key: value}))
            error = home.fails("state-mismatch", "vm", "clone", "--json", "src", "never", "--instant")
            assert value in error["message"]
            assert "restart" in error["hint"]
            assert not (home.home / "vms" / "src" / "freezing").exists()
    finally:
        record.write_text(kept)
    assert home.status("src") == "running"
    only_source_left(home)
    synced(home, synced(home))


def test_source_that_is_still_booting(cat: Cat) -> None:
    """It is cloned or refused; its boot goes on either way, and nothing is left."""
    cat.create("young")
    cat("vm", "start", "young", "--no-wait")
    early = cat.try_("vm", "clone", "young", "early", "--instant", "--json")
    assert "Traceback" not in early.stderr
    if early.returncode:
        error = json.loads(early.stderr.splitlines()[-1])
        assert error["code"] in ("guest-not-ready", "deadline-exceeded"), error
        assert "early" not in cat.list()
    else:
        assert cat("vm", "exec", "early", "--", "hostname") == "early\n"
        cat("vm", "delete", "--force", "early")
    cat("vm", "wait", "young")
    only_source_left(cat, "young")
    cat("vm", "clone", "young", "late", "--instant", "--verify")
    cat("vm", "delete", "--force", "late")
    assert balloons(cat, "young") == 1, "it is to go on giving memory back"


def balloons(cat: Cat, name: str) -> int:
    """How many balloon devices the guest sees."""
    return int(cat.exec(name, "cat /sys/bus/virtio/devices/*/device | grep -c 0x0005 || true"))


def test_a_source_that_booted_keeps_its_balloon(cat: Cat) -> None:
    cat("vm", "run", "src")
    assert balloons(cat, "src") == 1
    for name in ("one", "two"):
        cat("vm", "clone", "src", name, "--instant")
        wait_until(lambda: balloons(cat, "src") == 1, what="the balloon")
        assert balloons(cat, name) == 0, "on memory that others map it would change them"


@pytest.fixture
def tiny(cache: Path, request: pytest.FixtureRequest) -> Iterator[Cat]:
    """A home on a file system of 6 MiB."""
    yield from small_home(cache, request)


def test_no_room_is_found_out_before_the_source_is_touched(tiny: Cat) -> None:
    tiny("vm", "run", "src", "--disk", "32M", "--", "sh", "-c", "echo kept > /data/x; sync")
    spec = (tiny.home / "vms" / "src" / "vm.json").read_text()
    # No room for memory: in memory the budget is spent, on disk there are a few MiB.
    tiny("config", "set", "frozen-memory", "64M")
    error = tiny.fails("no-space", "vm", "clone", "--json", "src", "never", "--instant")
    assert "frozen-memory" in error["hint"]
    tiny("config", "unset", "frozen-memory")
    # No room for an overlay.
    fill(tiny.home / "ballast")
    for kind in ("--instant", "--linked", "--full"):
        tiny.fails("no-space", "vm", "clone", "--json", "src", "never", kind)
        assert (tiny.home / "vms" / "src" / "vm.json").read_text() == spec
    assert tiny.status("src") == "running"
    assert tiny("vm", "exec", "src", "--", "cat", "/data/x") == "kept\n"
    only_source_left(tiny)
    assert balloons(tiny, "src") == 1
    (tiny.home / "ballast").unlink()
    tiny("vm", "clone", "src", "now", "--instant")
    assert tiny("vm", "exec", "now", "--", "cat", "/data/x") == "kept\n"


def test_after_a_reboot_clones_are_vms_like_any_other(home: Cat) -> None:
    """Frozen memory is gone then: nothing that is to last refers to it."""
    home("vm", "clone", "src", "r1", "r2", "--instant")
    least = on_disk(home, "r1")
    home.exec("r1", "echo mine > /data/mine; sync")
    for pid in keepers_of([home.home]):
        os.kill(pid, signal.SIGKILL)
    for pid in home.qemus():
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not home.qemus(), what="the end of all QEMUs")
    for path in home.frozen_memory():
        path.unlink()
    for name in ("src", "r1", "r2"):
        record = home.home / "vms" / name / "run.json"
        earlier = json.loads(record.read_text())
        record.write_text(json.dumps({**earlier, "boot_id": "00000000-0000-0000-0000-000000000000"}))
    assert {name: vm["status"] for name, vm in home.list().items()} == dict.fromkeys(("src", "r1", "r2"), "stopped")
    home("vm", "start", "r1")
    assert home.exec("r1", "hostname; cat /data/mine") == "r1\nmine\n"
    assert on_disk(home, "r1") >= least
    home("vm", "delete", "--force", "r1", "r2")
    wake(home)
    assert on_disk(home, "src") >= least
    only_source_left(home)
