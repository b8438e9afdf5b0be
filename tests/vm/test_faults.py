"""What may go wrong, made to go wrong: kills at random moments, crowds, damage, full disks, reboots."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.cat import Cat, command_lines, keepers_of, parallel, wait_until
from tests.conftest import cat_in, fill, small_home

pytestmark = pytest.mark.vm

ROUNDS = int(os.environ.get("APPCAT_ROUNDS", "20"))
SEED = int(os.environ.get("APPCAT_SEED", "0")) or random.SystemRandom().randrange(1 << 30)


@pytest.mark.soak
def test_kill_the_command_at_random_moments(cat: Cat) -> None:
    """kill -9 during create, start, stop, delete: afterwards all is told truthfully and usable, nothing is orphaned."""
    print(f"seed {SEED}")
    dice = random.Random(SEED)
    for number in range(ROUNDS):
        verb = ("create", "start", "stop", "delete")[number % 4]
        prepare(cat, verb)
        options = {"start": ["--no-wait"], "delete": ["--force"]}.get(verb, [])
        victim = cat.popen("vm", verb, *options, "web", start_new_session=True)
        time.sleep(dice.uniform(0.1, 1.2))
        victim.kill()
        victim.communicate()
        check_truth(cat)


def prepare(cat: Cat, verb: str) -> None:
    """Bring ``web`` to where ``verb`` has something to do."""
    exists = "web" in cat.list()
    if verb == "create":
        if exists:
            cat("vm", "delete", "--force", "web")
        return
    if not exists:
        cat.create("web", "--disk", "64M")
    if verb == "start":
        cat("vm", "kill", "web")
    else:
        cat("vm", "start", "web")


def check_truth(cat: Cat) -> None:
    """The list is right about ``web``, no QEMU runs unseen, no lock is stuck."""
    vm = cat.list().get("web")
    qemus = cat.qemus()
    if vm is None:
        assert qemus == []
        return
    if vm["status"] == "busy":  # the keeper may hold the lock for the blink of an eye
        wait_until(lambda: cat.list()["web"]["status"] != "busy", what="the end of a short lock")
        vm, qemus = cat.list()["web"], cat.qemus()
    assert vm["status"] in ("running", "stopped"), vm
    assert len(qemus) == (1 if vm["status"] == "running" else 0), (vm, qemus)


@pytest.mark.smoke
def test_start_after_a_killed_start_works(cat: Cat) -> None:
    cat.create("web")
    for delay in (0.15, 0.25, 0.35, 0.45):
        victim = cat.popen("vm", "start", "web")
        time.sleep(delay)
        victim.kill()
        victim.communicate()
    cat("vm", "start", "web")
    assert cat("vm", "exec", "web", "hostname") == "web\n"
    assert len(cat.qemus()) == 1


def test_twenty_starts_give_one_qemu(cat: Cat) -> None:
    cat.create("web")
    starters = [cat.popen("vm", "start", "--no-wait", "web") for _ in range(20)]
    seen = set()
    while any(starter.poll() is None for starter in starters):
        vm = cat.list()["web"]
        seen.add(vm["status"])
        assert len(cat.qemus()) <= 1
    results = [starter.communicate() for starter in starters]
    assert all(starter.returncode == 0 for starter in starters), results
    assert sum("already" not in out for out, _ in results) == 1
    assert seen <= {"stopped", "busy", "running"}
    assert len(cat.qemus()) == 1


def test_twenty_creates_give_one_vm(cat: Cat) -> None:
    results = parallel(cat, [("vm", "create", "web")] * 20)
    assert sorted(result.returncode for result in results) == [0] + [4] * 19
    assert list(cat.list()) == ["web"]
    assert [path.name for path in (cat.home / "vms").iterdir()] == ["web"]


@pytest.mark.smoke
def test_qemu_killed_is_stopped_with_the_reason(cat: Cat) -> None:
    cat("vm", "run", "web")
    os.kill(cat.qemus()[0], signal.SIGKILL)
    cat.wait_status("web", "stopped")
    wait_until(lambda: cat.show("web")["last_exit"]["cause"] in ("killed", "unknown"), what="a reason")
    assert "kill" in cat.show("web")["last_exit"]["reason"]
    cat("vm", "start", "web")


def test_qemu_terminated_says_by_whom(cat: Cat) -> None:
    cat("vm", "run", "web")
    os.kill(cat.qemus()[0], signal.SIGTERM)
    cat.wait_status("web", "stopped")
    wait_until(lambda: "terminating on signal 15" in cat.show("web")["last_exit"]["reason"], what="QEMU's last words")


def test_killed_keeper_loses_nothing(cat: Cat) -> None:
    cat("vm", "run", "web", "--restart", "on-failure")
    (keeper,) = keepers_of([cat.home])
    os.kill(keeper, signal.SIGKILL)
    assert cat("vm", "exec", "web", "hostname") == "web\n"
    os.kill(cat.qemus()[0], signal.SIGKILL)
    wait_until(lambda: not cat.qemus())
    cat.create("other")
    cat("vm", "start", "--no-wait", "other")
    wait_until(lambda: cat.status("web") == "running", timeout=60, what="the next keeper's restart of web")


def test_restart_policies(cat: Cat) -> None:
    cat.create("always", "--restart", "always")
    cat.create("failure", "--restart", "on-failure")
    cat.create("never")
    cat("vm", "start", "always", "failure", "never")
    first = {name: cat.show(name)["run"]["pid"] for name in ("always", "failure", "never")}
    for pid in first.values():
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: cat.status("always") == cat.status("failure") == "running", what="the restarts")
    assert cat.status("never") == "stopped"
    cat("vm", "start", "always", "failure")
    for name in ("always", "failure"):
        cat.try_("vm", "exec", name, "poweroff")
    wait_until(lambda: cat.show("failure")["status"] == "stopped", what="the power-off")
    wait_until(lambda: cat.show("always")["status"] == "running", timeout=60, what="the restart after power-off")
    cat("vm", "stop", "always")
    time.sleep(5)
    assert {name: vm["status"] for name, vm in cat.list().items()} == dict.fromkeys(first, "stopped")


def test_console_log_is_bounded(cat: Cat) -> None:
    cat("vm", "run", "web")
    flood = "dd if=/dev/zero bs=1024 count=1500 2>/dev/null | tr '\\0' x > /dev/ttyS0"
    cat("vm", "exec", "web", "--", "sh", "-c", flood)
    log = cat.home / "vms" / "web" / "console.log"
    wait_until(lambda: log.with_name("console.log.1").exists(), what="the full log's move")
    wait_until(lambda: log.stat().st_size < 1 << 20, what="a new log")
    cat("vm", "exec", "web", "--", "sh", "-c", "echo still-logged > /dev/ttyS0")
    wait_until(lambda: b"still-logged" in log.read_bytes(), what="the log going on")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        ("{", "not JSON"),
        ('{"schema": 99}', "newer appcat"),
        ("", "not JSON"),
        ('{"schema": 1, "name": "broken"}', "missing"),
    ],
)
def test_damaged_vm_json(cat: Cat, damage: str, reason: str) -> None:
    cat.create("broken")
    cat.create("fine")
    spec = cat.home / "vms" / "broken" / "vm.json"
    spec.write_text(damage)
    listed = cat.list()
    assert (listed["broken"]["status"], listed["fine"]["status"]) == ("broken", "stopped")
    assert reason in listed["broken"]["detail"]
    cat.fails("broken", "vm", "start", "broken", "--json")
    cat.fails("broken", "vm", "delete", "broken", "--json")
    assert spec.read_text() == damage
    cat("vm", "delete", "--force", "broken")
    assert list(cat.list()) == ["fine"]


def test_broken_while_running_can_be_deleted(cat: Cat) -> None:
    cat.create("web")
    cat("vm", "start", "--no-wait", "web")
    (cat.home / "vms" / "web" / "vm.json").write_text("nonsense")
    (cat.home / "vms" / "web" / "run.json").write_text("nonsense")
    assert "still runs" in cat.list()["web"]["detail"]
    cat("vm", "delete", "--force", "web")
    assert cat.qemus() == []


def test_lost_run_record_is_found_again(cat: Cat) -> None:
    cat("vm", "run", "web")
    record = cat.home / "vms" / "web" / "run.json"
    lost = json.loads(record.read_text())
    lost["pid"] = lost["pid_started"] = None
    record.write_text(json.dumps(lost))
    assert cat.status("web") == "running"
    cat("vm", "kill", "web")
    assert cat.qemus() == []


def test_host_reboot(cat: Cat) -> None:
    """A reboot as the files see it: the records of another boot, nobody alive."""
    cat.create("auto", "--autostart")
    cat.create("manual")
    cat("vm", "start", "--no-wait", "auto", "manual")
    kill_keepers(cat)
    for pid in cat.qemus():
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not cat.qemus())
    for name in ("auto", "manual"):
        record = cat.home / "vms" / name / "run.json"
        earlier = json.loads(record.read_text())
        record.write_text(json.dumps({**earlier, "boot_id": "00000000-0000-0000-0000-000000000000"}))
    assert cat.status("auto") == cat.status("manual") == "stopped"
    assert cat.show("auto")["last_exit"]["cause"] == "host-restarted"
    service = subprocess.Popen([*cat.program[:1], "-m", "appcat.keeper", "--service"], env=cat.env)
    try:
        cat.wait_status("auto", "running")
        assert cat.status("manual") == "stopped"
        cat("vm", "kill", "auto")
        service.kill()
        service.wait()
        service = subprocess.Popen([*cat.program[:1], "-m", "appcat.keeper", "--service"], env=cat.env)
        time.sleep(3)
        assert cat.status("auto") == "stopped", "once per boot"
    finally:
        service.kill()
        service.wait()


def test_clock_is_corrected(cat: Cat) -> None:
    """What the keeper does after the host slept, on a guest whose clock is wrong."""
    cat("vm", "run", "web", "--", "date", "-s", "2001-02-03 04:05:06")
    script = (
        "from appcat.app import App; from appcat.services.keep import Keeper; import time\n"
        "keeper = Keeper(App.load().context); keeper.tick(); keeper.clock_offset -= 3600; keeper.tick()"
    )
    kill_keepers(cat)
    subprocess.run([*cat.program[:1], "-c", script], env=cat.env, check=True, timeout=60)
    guest = int(cat("vm", "exec", "web", "date", "+%s"))
    assert abs(guest - time.time()) < 30


@pytest.fixture
def tiny(cache: Path, request: pytest.FixtureRequest) -> Iterator[Cat]:
    """A home on a file system of 6 MiB."""
    yield from small_home(cache, request)


def test_disk_full(tiny: Cat) -> None:
    tiny.create("one")
    ballast = tiny.home / "ballast"
    fill(ballast)
    error = tiny.fails("no-space", "vm", "create", "two", "--disk", "1G", "--json")
    assert "left" in error["message"]
    assert [path.name for path in (tiny.home / "vms").iterdir()] == ["one"]
    tiny.fails("no-space", "vm", "start", "one", "--json")
    assert tiny.status("one") == "stopped"
    assert tiny.qemus() == []
    ballast.unlink()
    tiny("vm", "start", "one")
    fill(ballast)
    assert tiny.status("one") == "running"
    tiny("vm", "exec", "one", "true")
    tiny("vm", "delete", "--force", "one")
    assert tiny.list() == {}


def test_awkward_homes(cache: Path, request: pytest.FixtureRequest) -> None:
    base = Path(tempfile.mkdtemp(prefix="appcat-test-"))
    for home in (base / "with spaces, commas and ümlauts", base / ("long-" * 30) / ("deep-" * 20)):
        for cat in cat_in(home, cache, request):
            assert cat("vm", "run", "web", "--disk", "32M", "--", "hostname") == "web\n"
            assert cat("vm", "ssh", "web", "hostname") == "web\n"
            cat("vm", "stop", "web")
    base.rmdir() if not any(base.iterdir()) else subprocess.run(["rm", "-r", str(base)], check=True)


def test_missing_tools_are_named(cat: Cat, tmp_path: Path) -> None:
    cat.create("web")
    poor = Cat(cat.home, cat.cache, extra={"PATH": str(tmp_path)})
    error = poor.fails("missing-tool", "vm", "start", "web", "--json")
    assert "qemu-system" in error["message"]
    assert "install" in error["hint"]
    error = poor.fails("missing-tool", "vm", "create", "other", "--disk", "1G", "--json")
    assert "qemu-img" in error["message"]
    assert list(cat.list()) == ["web"]


@pytest.mark.parametrize("name", ["../x", "", "a" * 300, "w\u0435b", "Web", "-web", "web-", "a.b", "a/b", "."])
def test_bad_names(cat: Cat, name: str) -> None:
    cat.fails("invalid-name", "vm", "create", "--json", "--", name)
    assert not (cat.home / "vms").exists() or not list((cat.home / "vms").iterdir())


@pytest.mark.parametrize(
    ("code", "options"),
    [
        ("invalid-size", ["--memory", "0M"]),
        ("invalid-size", ["--memory", "-1G"]),
        ("invalid-size", ["--memory", "12"]),
        ("invalid-size", ["--memory", "999999T"]),
        ("no-memory", ["--memory", "3T"]),
        ("invalid-size", ["--disk", "1K"]),
        ("invalid-cpus", ["--cpus", "0"]),
        ("invalid-cpus", ["--cpus", "9999"]),
        ("invalid-port", ["-p", "0:80"]),
        ("invalid-port", ["-p", "eighty"]),
        ("invalid-port", ["-p", "1:2:3:4"]),
        ("invalid-label", ["-l", "no-value"]),
        ("template-not-found", ["-t", "nonesuch"]),
    ],
)
def test_bad_options(cat: Cat, code: str, options: list[str]) -> None:
    cat.fails(code, "vm", "create", "web", "--json", *options)
    assert not (cat.home / "vms").exists() or not list((cat.home / "vms").iterdir())


def kill_keepers(cat: Cat) -> None:
    wait_until(lambda: keepers_of([cat.home]), what="a keeper")
    for pid in keepers_of([cat.home]):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not keepers_of([cat.home]), what="the keeper's end")


def test_probe_does_not_outlive_its_command(cat: Cat, tmp_path: Path) -> None:
    fresh = Cat(cat.home, tmp_path / "cache", prefix=cat.prefix)
    victim = fresh.popen("doctor")
    wait_until(probing, what="a probe")
    victim.kill()
    victim.communicate()
    wait_until(lambda: not probing(), what="the probe's end")
    assert not list(Path(tempfile.gettempdir()).glob("appcat-probe-*"))


def probing() -> list[int]:
    """Probes on x86: no other machine of ours has the device through which they end."""
    return [pid for pid, args in command_lines().items() if any(arg.startswith("isa-debug-exit") for arg in args)]


def test_disk_that_cannot_be_mounted_takes_no_data(cat: Cat) -> None:
    cat("vm", "run", "web", "--disk", "32M", "--", "sh", "-c", "echo precious > /data/x")
    cat("vm", "exec", "web", "--", "sh", "-c", "dd if=/dev/urandom of=/dev/vda seek=2 count=2 2>/dev/null; sync")
    cat("vm", "kill", "web")
    cat("vm", "start", "web")
    assert cat.try_("vm", "exec", "web", "--", "sh", "-c", "echo lost > /data/y").returncode != 0
    assert "cannot be mounted" in (cat.home / "vms" / "web" / "console.log").read_text(errors="replace")


def test_directory_of_somebody_else_breaks_nothing(cat: Cat) -> None:
    cat.create("mine")
    cat.create("theirs")
    theirs = cat.home / "vms" / "theirs"
    (theirs / "vm.json").unlink()
    (theirs / "vm.json").mkdir()
    (theirs / "op.lock").unlink()
    (theirs / "op.lock").mkdir()
    listed = cat.list()
    assert (listed["mine"]["status"], listed["theirs"]["status"]) == ("stopped", "broken")
    (theirs / "op.lock").rmdir()
    cat("vm", "delete", "--force", "theirs")


def test_memory_promised_to_running_vms_counts(cat: Cat) -> None:
    # More than half of all there is, each: whatever others take or give back meanwhile, never both.
    half = psutil.virtual_memory().total // 2 // (1 << 30) + 1
    cat.create("one", "--memory", f"{half}G")
    cat.create("two", "--memory", f"{half}G")
    cat("vm", "start", "--no-wait", "one")
    error = cat.fails("no-memory", "vm", "start", "two", "--json")
    assert "promised to running vms" in error["message"]
    cat("vm", "kill", "one")
    cat("vm", "start", "--no-wait", "two")


def test_stop_while_the_guest_boots(cat: Cat) -> None:
    cat.create("web")
    cat("vm", "start", "--no-wait", "web")
    cat("vm", "stop", "web")
    assert cat.status("web") == "stopped"
