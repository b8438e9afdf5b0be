"""The verbs that change a vm: ports, disks, edits, pause, rename, memory that comes back."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from appcat.model.vm import SCHEMA
from appcat.qemu.hotplug import plugged_in
from appcat.qemu.monitor import Monitor
from appcat.services.ssh_ports import free_ssh_port
from appcat.services.stats import proportional_memory
from appcat.settings import runtime_directory
from tests.cat import Cat, parallel, wait_until
from tests.conftest import cat_in, fill, new_home, small_home

pytestmark = [pytest.mark.vm, pytest.mark.xdist_group("verbs")]

ROUNDS = int(os.environ.get("APPCAT_ROUNDS", "20"))
SEED = int(os.environ.get("APPCAT_SEED", "0")) or random.SystemRandom().randrange(1 << 30)
MIB = 1 << 20


@pytest.fixture(scope="module")
def home(cache: Path, request: pytest.FixtureRequest) -> Iterator[Cat]:
    """A home with one running vm called ``web`` that serves its own name at port 80."""
    for cat in cat_in(new_home(), cache, request):
        cat("vm", "run", "web", "--disk", "64M")
        script = "mkdir -p /srv; hostname > /srv/index.html; httpd -p 80 -h /srv"
        cat("vm", "exec", "web", "--", "sh", "-c", script)
        yield cat


def free_port() -> int:
    return free_ssh_port(set(), random.randrange(5000))


def http(port: int) -> str:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(b"GET /index.html HTTP/1.0\r\n\r\n")
        return connection.makefile().read()


def names(found: str) -> list[str]:
    return [disk["name"] for disk in json.loads(found)]


@pytest.mark.smoke
def test_port_of_a_running_vm(home: Cat) -> None:
    port = free_port()
    home("vm", "port", "add", "web", f"{port}:80")
    assert http(port).endswith("web\n")
    assert json.loads(home("vm", "port", "add", "web", f"{port}:80", "--json"))["changed"] is False
    home("vm", "port", "remove", "web", f"{port}:80")
    with pytest.raises(ConnectionRefusedError):
        http(port)
    home.fails("port-not-found", "vm", "port", "remove", "--json", "web", f"{port}:80")


def test_port_that_somebody_has_is_refused_and_nothing_changes(home: Cat) -> None:
    before = home.show("web")["ports"]
    with socket.create_server(("127.0.0.1", 0)) as owner:
        error = home.fails("port-in-use", "vm", "port", "add", "--json", "web", f"{owner.getsockname()[1]}:80")
    assert "python" in error["message"]
    assert home.show("web")["ports"] == before


def test_udp_port_of_a_running_vm(home: Cat) -> None:
    port = free_port()
    home("vm", "port", "add", "web", f"{port}:5353/udp")
    # Nobody listens there and pico has nothing that would: its kernel counts the datagrams that find nobody.
    counted = ["vm", "exec", "web", "--", "sh", "-c", "grep ^Udp: /proc/net/snmp | tail -1 | cut -d' ' -f3"]
    before = int(home(*counted))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(20):
            sender.sendto(b"hello", ("127.0.0.1", port))
    wait_until(lambda: int(home(*counted)) >= before + 20, what="datagrams that reach the guest")
    home("vm", "port", "remove", "web", f"{port}:5353/udp")


def test_port_named_but_not_there_is_made_when_asked_again(home: Cat) -> None:
    """As a command leaves it that was killed between writing vm.json and telling QEMU."""
    port = free_port()
    spec = home.home / "vms" / "web" / "vm.json"
    data = json.loads(spec.read_text())
    data["ports"].append({"host": port, "guest": 80, "address": "127.0.0.1", "protocol": "tcp"})
    spec.write_text(json.dumps(data))
    home("vm", "port", "add", "web", f"{port}:80")
    assert http(port).endswith("web\n")
    home("vm", "port", "remove", "web", f"{port}:80")


def test_disk_of_a_running_vm(home: Cat) -> None:
    assert names(home("vm", "disk", "add", "web", "logs", "64M", "--json")) == ["data", "logs"]
    home("vm", "exec", "web", "--", "sh", "-c", "echo kept > /disks/logs/file; sync")
    before = int(home("vm", "exec", "web", "--", "sh", "-c", "df -k /disks/logs | tail -1 | awk '{print $2}'"))
    home("vm", "disk", "grow", "web", "logs", "128M")
    after = int(home("vm", "exec", "web", "--", "sh", "-c", "df -k /disks/logs | tail -1 | awk '{print $2}'"))
    assert after > 1.7 * before
    assert home("vm", "exec", "web", "--", "cat", "/disks/logs/file") == "kept\n"
    home("vm", "edit", "web", "--disk", "logs=192M")
    grown = int(home("vm", "exec", "web", "--", "sh", "-c", "df -k /disks/logs | tail -1 | awk '{print $2}'"))
    assert grown > 1.3 * after
    home.fails("invalid-size", "vm", "disk", "grow", "--json", "web", "logs", "64M")
    home.fails("already-exists", "vm", "disk", "add", "--json", "web", "logs", "64M")
    home.fails("disk-in-use", "vm", "disk", "remove", "--json", "web", "data")


def test_what_the_guest_deletes_the_host_has_back(home: Cat) -> None:
    def used() -> int:
        return int(next(disk["used"] for disk in json.loads(home("vm", "disk", "list", "web", "--json"))))

    empty = used()
    home("vm", "exec", "web", "--", "sh", "-c", "dd if=/dev/urandom of=/data/big bs=1M count=40 && sync")
    full = used()
    assert full > empty + (36 << 20)
    home("vm", "exec", "web", "--", "sh", "-c", "rm /data/big && sync")
    wait_until(lambda: used() < empty + (16 << 20), what="the disk to shrink")


def test_disk_in_use_is_not_removed(home: Cat) -> None:
    home("vm", "disk", "add", "web", "busy", "64M")
    user = home.popen("vm", "exec", "web", "--", "sh", "-c", "cd /disks/busy; echo in; sleep 1000")
    try:
        assert user.stdout is not None
        assert user.stdout.readline() == "in\n"
        error = home.fails("disk-in-use", "vm", "disk", "remove", "--json", "web", "busy")
        assert "busy" in error["details"].lower()
    finally:
        user.terminate()
        user.communicate()
    wait_until(lambda: home.try_("vm", "disk", "remove", "web", "busy").returncode == 0, what="the disk to be free")
    assert not (home.home / "vms" / "web" / "disks" / "busy.qcow2").exists()


def test_ninth_disk_is_refused(cat: Cat) -> None:
    cat.create("many", *(option for number in range(8) for option in ("--disk", f"d{number}=16M")))
    cat.fails("invalid-input", "vm", "disk", "add", "--json", "many", "one-more", "16M")
    cat("vm", "disk", "remove", "many", "d3")
    cat("vm", "disk", "add", "many", "one-more", "16M")
    slots = {disk["name"]: disk["slot"] for disk in cat.show("many")["disks"]}
    assert (slots["d4"], slots["one-more"]) == (4, 3)


def test_disks_survive_a_restart_each_in_its_place(cat: Cat) -> None:
    cat("vm", "run", "web", "--disk", "64M", "--disk", "logs=64M")
    cat("vm", "disk", "add", "web", "third", "64M")
    for place in ("/data", "/disks/logs", "/disks/third"):
        cat("vm", "exec", "web", "--", "sh", "-c", f"echo {place} > {place}/name")
    cat("vm", "restart", "web")
    for place in ("/data", "/disks/logs", "/disks/third"):
        assert cat("vm", "exec", "web", "--", "cat", f"{place}/name").strip() == place
    cat("vm", "stop", "web")
    cat("vm", "disk", "remove", "web", "logs")
    cat("vm", "disk", "grow", "web", "third", "128M")
    cat("vm", "rename", "web", "shop")
    cat("vm", "start", "shop")
    assert cat("vm", "exec", "shop", "--", "cat", "/data/name", "/disks/third/name") == "/data\n/disks/third\n"
    assert cat("vm", "exec", "shop", "--", "hostname") == "shop\n"
    assert set(cat.list()) == {"shop"}


def processor_seconds(pid: int) -> float:
    """What a process has taken so far; Linux counts it in hundredths."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def taken_in(pid: int, seconds: float) -> float:
    """Processor seconds that a process takes while nobody asks it for anything."""
    before = processor_seconds(pid)
    time.sleep(seconds)
    return processor_seconds(pid) - before


@pytest.fixture
def toiling(home: Cat) -> Iterator[Cat]:
    """A guest that takes all the processor time it can get, so that what a pause saves is plain; goes on afterwards."""
    home("vm", "exec", "web", "--", "sh", "-c", "yes >/dev/null 2>&1 </dev/null &")
    try:
        yield home
    finally:
        home("vm", "unpause", "web")
        home("vm", "exec", "web", "--", "killall", "yes")


def test_pause_takes_no_processor_time(toiling: Cat) -> None:
    pid = toiling.show("web")["run"]["pid"]
    # On a crowded host it does not get a whole processor, yet many times what may be left of it in a pause.
    wait_until(lambda: taken_in(pid, 1) > 0.2, what="a guest at work")
    toiling("vm", "pause", "web")
    assert toiling.status("web") == "paused"
    assert taken_in(pid, 3) < 0.05
    # Half a second is sampled, in which QEMU answers a question: each hundredth that this takes is 2 %.
    assert json.loads(toiling("vm", "stats", "web", "--json"))["vms"][0]["cpu"] < 10
    assert json.loads(toiling("vm", "pause", "web", "--json")) == [{"name": "web", "changed": False}]
    begun = time.monotonic()
    refused = toiling.try_("vm", "exec", "web", "--", "true")
    assert (refused.returncode, "web is paused" in refused.stderr) == (4, True), refused
    assert time.monotonic() - begun < 15, "it waited for an SSH server that cannot answer"
    toiling("vm", "unpause", "web")
    assert toiling.status("web") == "running"
    assert abs(int(toiling("vm", "exec", "web", "--", "date", "+%s")) - time.time()) < 2


def test_paused_vm_is_stopped_politely(cat: Cat) -> None:
    cat("vm", "run", "web")
    cat("vm", "pause", "web")
    cat("vm", "stop", "web")
    assert cat.show("web")["last_exit"]["cause"] == "requested"


def test_edit_takes_effect_at_the_next_start(cat: Cat) -> None:
    cat("vm", "run", "web")
    cat.fails("vm-running", "vm", "edit", "--json", "web", "--memory", "192M")
    cat("vm", "edit", "web", "--restart", "on-failure")
    cat("vm", "stop", "web")
    cat("vm", "edit", "web", "--memory", "192M", "--cpus", "2")
    cat("vm", "start", "web")
    assert cat("vm", "exec", "web", "--", "nproc") == "2\n"
    total = int(cat("vm", "exec", "web", "--", "sh", "-c", "grep MemTotal /proc/meminfo | tr -dc 0-9"))
    assert total < 192 * 1024
    assert cat.show("web")["restart"] == "on-failure"


def test_unused_memory_comes_back(home: Cat) -> None:
    run = home.show("web")["run"]
    home("vm", "exec", "web", "--", "sh", "-c", "head -c 62914560 /dev/urandom > /tmp/fill")
    full = proportional_memory(run["pid"])
    home("vm", "exec", "web", "--", "rm", "/tmp/fill")
    wait_until(lambda: proportional_memory(run["pid"]) < full - 32 * MIB, timeout=60, what="memory given back")


def test_run_rm_leaves_nothing(cat: Cat) -> None:
    done = cat.try_("vm", "run", "--rm", "gone", "--", "sh", "-c", "echo out; exit 7")
    assert (done.returncode, done.stdout) == (7, "out\n")
    assert cat.list() == {}
    assert cat.qemus() == []


def test_config_makes_defaults(cat: Cat) -> None:
    cat("config", "set", "memory", "128M")
    cat("config", "set", "restart", "always")
    made = cat.create("web")
    assert (made["memory"], made["restart"]) == (128 * MIB, "always")
    cat.extra["APPCAT_MEMORY"] = "160M"
    assert cat.create("from-environment")["memory"] == 160 * MIB
    assert cat.create("from-option", "--memory", "192M")["memory"] == 192 * MIB
    cat.extra["APPCAT_MEMORY"] = "lots"
    error = cat.fails("invalid-size", "vm", "create", "--json", "never")
    assert "APPCAT_MEMORY" in error["message"]


def test_plain_ssh_and_scp(home: Cat, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(home("vm", "ssh-config"))
    (tmp_path / "file").write_text("through scp\n")
    options = ["-F", str(config), "-o", "BatchMode=yes"]
    subprocess.run(["scp", "-q", *options, tmp_path / "file", "web:/tmp/copied"], check=True, timeout=120)
    done = subprocess.run(
        ["ssh", *options, "web", "cat /tmp/copied"], check=True, timeout=120, capture_output=True, text=True
    )
    assert done.stdout == "through scp\n"
    subprocess.run(["scp", "-q", *options, "web:/tmp/copied", tmp_path / "back"], check=True, timeout=120)
    assert (tmp_path / "back").read_text() == "through scp\n"


@pytest.mark.skipif(shutil.which("rsync") is None, reason="no rsync; scripts/test installs it where it may")
def test_plain_rsync(home: Cat, tmp_path: Path) -> None:
    """pico has no rsync: this host's own is copied in, with the libraries it needs."""
    config = tmp_path / "config"
    config.write_text(home("vm", "ssh-config"))
    program = Path(str(shutil.which("rsync")))
    listed = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout.split()
    libraries = [shutil.copy(word, tmp_path) for word in listed if word.startswith("/")]  # links become files
    home("vm", "exec", "web", "--", "mkdir", "-p", "/opt/rsync")
    home("vm", "cp", str(program), *libraries, "web:/opt/rsync/")
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "deep" / "file").write_text("through rsync\n")
    there = "LD_LIBRARY_PATH=/opt/rsync /opt/rsync/rsync"
    shell = f"ssh -F {config} -o BatchMode=yes"
    subprocess.run(["rsync", "-a", "-e", shell, f"--rsync-path={there}", tree, "web:/tmp/"], check=True, timeout=120)
    assert home("vm", "exec", "web", "--", "cat", "/tmp/tree/deep/file") == "through rsync\n"


def test_older_homes_are_read_and_written_back_on_change_only(cat: Cat) -> None:
    """A home of every released schema is kept in tests/homes."""
    for kept in sorted((Path(__file__).parent.parent / "homes").iterdir()):
        shutil.copytree(kept, cat.home, dirs_exist_ok=True)
        for name in sorted(path.name for path in (kept / "vms").iterdir()):
            spec = cat.home / "vms" / name / "vm.json"
            before = spec.read_bytes()
            assert cat.status(name) == "stopped", cat.show(name)
            assert spec.read_bytes() == before
            add_what_is_not_kept(spec.parent)
            cat("vm", "label", name, "touched=yes")
            written = json.loads(spec.read_text())
            assert written["schema"] == SCHEMA
            assert written["disks"][0]["slot"] == 0
            cat("vm", "start", name)
            assert cat("vm", "exec", name, "--", "hostname") == f"{name}\n"
            cat("vm", "delete", "--force", name)


def add_what_is_not_kept(vm: Path) -> None:
    """A private key and an empty disk: nothing that differs between schemas, nothing that belongs into a repository."""
    key = vm / "ssh_host_ed25519_key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    public = key.with_suffix(".pub")
    (vm / "known_hosts").write_text(f"{vm.name} {' '.join(public.read_text().split()[:2])}\n")
    public.unlink()
    (vm / "disks").mkdir()
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", vm / "disks" / "data.qcow2", "64M"], check=True)


STEPS: dict[str, list[str]] = {
    "edit": ["edit", "web", "--memory", "128M"],
    "label": ["label", "web", "a=b"],
    "rename": ["rename", "web", "shop"],
    "port add": ["port", "add", "web", "PORT:80"],
    "port remove": ["port", "remove", "web", "PORT:80"],
    "disk add": ["disk", "add", "web", "more", "16M"],
    "disk grow": ["disk", "grow", "web", "data", "96M"],
    "disk remove": ["disk", "remove", "web", "more"],
    "network attach": ["network", "attach", "web", "store"],
    "network detach": ["network", "detach", "web", "store"],
    "pause": ["pause", "web"],
    "unpause": ["unpause", "web"],
    "restart": ["restart", "web", "--force", "--no-wait"],
    "exec": ["exec", "web", "--", "sleep", "5"],
}


# Of the home, whatever vms there are.
HOME_STEPS: dict[str, list[str]] = {
    "network create": ["network", "create", "extra"],
    "network delete": ["network", "delete", "extra"],
}


@pytest.mark.soak
@pytest.mark.parametrize("running", [False, True], ids=["stopped", "running"])
def test_kill_any_verb_at_random_moments(cat: Cat, running: bool) -> None:
    """kill -9 during each verb that changes something: one truthful vm, usable, its disks whole, nothing orphaned."""
    print(f"seed {SEED}")
    dice = random.Random(SEED + running)
    port = free_port()
    for network in ("lab", "store"):
        cat("network", "create", network)
    cat.create("web", "--disk", "64M", "--network", "lab")
    verbs = list(STEPS) if running else [verb for verb in STEPS if verb not in ("pause", "unpause", "exec")]
    verbs += HOME_STEPS
    for number in range(ROUNDS // 2 if ROUNDS > 20 else len(verbs)):
        verb = verbs[number % len(verbs)]
        if running and verb not in ("edit", "rename"):
            cat("vm", "start", "web", "--no-wait")
        elif cat.status("web") != "stopped":
            cat("vm", "kill", "web")
        set_up(cat, verb, port)
        words = HOME_STEPS[verb] if verb in HOME_STEPS else ["vm", *STEPS[verb]]
        victim = cat.popen(*(part.replace("PORT", str(port)) for part in words), start_new_session=True)
        time.sleep(dice.uniform(0.1, 0.6))
        victim.kill()
        victim.communicate()
        check_whole(cat)


def set_up(cat: Cat, verb: str, port: int) -> None:
    """Bring ``web`` to where ``verb`` has something to do."""
    if verb == "port remove":
        cat("vm", "port", "add", "web", f"{port}:80")
    if verb == "disk remove" and "more" not in [disk["name"] for disk in cat.show("web")["disks"]]:
        cat("vm", "disk", "add", "web", "more", "16M")
    if verb == "network detach" and "store" not in networks_of(cat, "web"):
        cat("vm", "network", "attach", "web", "store")
    if verb == "network delete" and "extra" not in all_networks(cat):
        cat("network", "create", "extra")
    if verb == "unpause":
        cat("vm", "pause", "web")


def all_networks(cat: Cat) -> list[str]:
    """Names of all networks, each of which can be looked at."""
    found = json.loads(cat("network", "list", "--json"))
    assert all(network["subnet"] for network in found), found
    return [network["name"] for network in found]


def networks_of(cat: Cat, name: str) -> dict[str, dict[str, Any]]:
    """A vm's places, by network."""
    return {place["network"]: place for place in json.loads(cat("vm", "network", "list", name, "--json"))}


def check_whole(cat: Cat) -> None:
    found: dict[str, dict[str, Any]] = cat.list()
    assert set(found) in ({"web"}, {"shop"}), found
    (name,) = found
    wait_until(lambda: cat.status(name) != "busy", what="the end of a short lock")
    vm = cat.show(name)
    assert vm["status"] in ("running", "paused", "stopped"), vm
    assert len(cat.qemus()) == (0 if vm["status"] == "stopped" else 1)
    check_networks(cat, name, vm["status"])
    cat("vm", "kill", name)
    if name == "shop":
        cat("vm", "rename", "shop", "web")
    if len(vm["disks"]) == 1:  # the next change of the disks sweeps what a killed one left
        cat("vm", "disk", "add", "web", "more", "16M")
    cat("vm", "disk", "remove", "web", "more")
    cat("vm", "label", "web", "checked=yes")
    disks = cat.home / "vms" / "web" / "disks"
    assert [path.name for path in disks.iterdir()] == ["data.qcow2"]
    checked = subprocess.run(["qemu-img", "check", "-q", disks / "data.qcow2"], check=False)
    assert checked.returncode in (0, 3), "more than leaked clusters, which a power cut may leave"
    for forward in cat.show("web")["ports"]:
        cat("vm", "port", "remove", "web", f"{forward['host']}:{forward['guest']}")


def check_networks(cat: Cat, name: str, status: str) -> None:
    """The vm has its place on lab, and on store one or none; what is attached next has a card in QEMU as well. The
    network that comes and goes is whole, or can be made.
    """
    cat("network", "delete" if "extra" in all_networks(cat) else "create", "extra")
    there = networks_of(cat, name)
    assert set(there) in ({"lab"}, {"lab", "store"})
    assert (there["lab"]["slot"], len({place["address"] for place in there.values()})) == (0, len(there))
    if status == "paused":
        cat("vm", "unpause", name)
    if "store" in there:
        done = cat.try_("vm", "network", "attach", name, "store")  # finished, unless there was nothing to finish
        assert done.returncode in (0, 4), done.stderr
    else:
        cat("vm", "network", "attach", name, "store")
    if status != "stopped":
        assert network_cards(cat, name) == {"nic1", "nic2"}
    assert networks_of(cat, name)["lab"] == there["lab"]


def network_cards(cat: Cat, name: str) -> set[str]:
    """The cards on private networks that QEMU has."""
    runtime = runtime_directory(cat.home.resolve())
    uuid = json.loads((cat.home / "vms" / name / "vm.json").read_text())["uuid"]
    with Monitor(runtime / uuid.replace("-", "")[:12] / "qmp.sock") as monitor:
        return {device for device in plugged_in(monitor) if device.startswith("nic")}


@pytest.fixture
def tiny(cache: Path, request: pytest.FixtureRequest) -> Iterator[Cat]:
    """A home on a file system of 6 MiB."""
    yield from small_home(cache, request)


CHANGES: dict[str, list[str]] = {
    "edit": ["edit", "web", "--memory", "128M"],
    "label": ["label", "web", "a=b"],
    "rename": ["rename", "web", "shop"],
    "port add": ["port", "add", "web", "127.0.0.1:29999:80"],
    "disk add": ["disk", "add", "web", "more", "16M"],
    "disk grow": ["disk", "grow", "web", "data", "96M"],
}


def test_disk_full_changes_nothing(tiny: Cat) -> None:
    before = tiny.create("web", "--disk", "64M")
    fill(tiny.home / "ballast")
    for change in CHANGES.values():
        tiny.fails("no-space", "vm", *change, "--json")
        assert {key: tiny.show("web")[key] for key in before} == before
    tiny.fails("no-space", "config", "set", "memory", "1G", "--json")
    (tiny.home / "ballast").unlink()
    files = sorted(path.name for path in (tiny.home / "vms" / "web" / "disks").iterdir())
    assert files == ["data.qcow2"]
    for change in CHANGES.values():
        tiny("vm", *(part.replace("web", "shop") if change[0] in ("port", "disk") else part for part in change))
    assert tiny.show("shop")["disks"][0]["size"] == 96 * MIB


def test_crowds_change_one_vm_one_after_another(cat: Cat) -> None:
    cat.create("web")
    first = free_port()
    done = parallel(cat, [["vm", "port", "add", "web", f"{first + number}:80"] for number in range(12)])
    assert [one.stderr for one in done if one.returncode] == []
    assert len(cat.show("web")["ports"]) == 12
    done = parallel(cat, [["vm", "rename", "web", f"new-{number}", "--json"] for number in range(6)])
    assert sum(one.returncode == 0 for one in done) == 1
    assert not any("Traceback" in one.stderr for one in done)
    assert len(cat.list()) == 1
    assert all(vm["status"] == "stopped" for vm in cat.list().values())
