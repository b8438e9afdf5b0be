"""How the host reaches its vms: addresses of their own, ports by number, the hosts file, the inventory."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import shlex
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from appcat.services.hosts_file import names_of
from appcat.services.listening import may_listen
from tests.cat import Cat
from tests.conftest import cat_in, new_home
from tests.vm.test_guide import Reader, reader
from tests.vm.test_new_user import newcomer

__all__ = ["newcomer", "reader"]

pytestmark = [pytest.mark.vm, pytest.mark.xdist_group("host-addresses")]

ROUNDS = int(os.environ.get("APPCAT_ROUNDS", "20"))
SEED = int(os.environ.get("APPCAT_SEED", "0")) or random.SystemRandom().randrange(1 << 30)
SERVE = "mkdir -p /srv; hostname > /srv/index.html; for port in 80 2376; do httpd -p $port -h /srv; done"
PATIENCE = 30


def http(address: str, port: int, source: Cat | None = None) -> str:
    """What the web server there answers; asked for from where ``source`` is."""
    script = (
        "import socket, sys\n"
        f"with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout={PATIENCE}) as connection:\n"
        "    connection.sendall(b'GET /index.html HTTP/1.0\\r\\n\\r\\n')\n"
        "    print(connection.makefile().read().splitlines()[-1])\n"
    )
    prefix = source.prefix if source else ()
    argv = [*prefix, "python3", "-c", script, address, str(port)]
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=120).stdout.strip()


def ports(cat: Cat, name: str) -> dict[str, dict[str, Any]]:
    """Where the ports of a vm are, by ADDRESS:PORT/PROTOCOL without the address."""
    address = cat.show(name)["address"]
    listed = json.loads(cat("vm", "port", "list", name, "--json"))
    assert {port["address"] for port in listed} == {address}
    return {f"{port['host']}/{port['protocol']}": port for port in listed}


def hostname(cat: Cat, name: str) -> str:
    return cat("vm", "exec", name, "hostname").strip()


# --- the same number for each


def test_the_same_port_of_many_is_reached_at_once(cat: Cat) -> None:
    """One vm that booted, one from a warm template, two clones of the first: each serves its name at the same ports."""
    cat("vm", "run", "cold", "--publish", "80", "--publish", "2376", "--publish", "53/udp")
    cat("vm", "exec", "cold", "--", "sh", "-c", SERVE)
    cat("vm", "run", "warm", "--instant", "-p", "80", "-p", "2376", "--", "sh", "-c", SERVE)
    cat("vm", "clone", "cold", "one", "two", "--verify")
    for name in ("one", "two"):
        cat.exec(name, "hostname > /srv/index.html")
    vms = cat.list()
    assert len({vm["address"] for vm in vms.values()}) == 4
    assert {vm["ssh"]["address"] == vm["address"] for vm in vms.values()} == {True}
    assert {vm["ssh"]["port"] for vm in vms.values()} == {20022}
    places = [(vm["address"], port, name) for name, vm in vms.items() for port in (2376, 20080)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda place: http(*place[:2]), places)) == [name for _, _, name in places]
    wanted = {"20022/tcp", "20080/tcp", "2376/tcp"}
    for name in vms:
        there = set(ports(cat, name))
        assert there >= wanted
        assert ("20053/udp" in there) is (name != "warm")
        assert ("80/tcp" in there) is ("22/tcp" in there) is may_listen(22)
    cat("vm", "delete", "--force", "--yes", *vms)


def test_an_address_stays_with_its_vm(cat: Cat) -> None:
    cat("vm", "run", "web", "-p", "80", "-p", "2376")
    first = cat.show("web")
    cat("vm", "restart", "web")
    cat("vm", "edit", "web", "--restart", "no")
    os.kill(cat.qemus()[0], signal.SIGKILL)
    cat.wait_status("web", "stopped")
    for _ in range(3):  # killed and started again at once: what the last QEMU listened on is only just free
        cat("vm", "start", "web")
        os.kill(cat.qemus()[0], signal.SIGKILL)
    cat("vm", "start", "web")
    cat("vm", "stop", "web")
    cat("vm", "rename", "web", "site")
    cat("vm", "start", "site")
    now = cat.show("site")
    for key in ("address", "ssh", "ports"):
        assert now[key] == first[key]
    assert hostname(cat, "site") == "site"


def test_ports_by_number_come_and_go_on_a_running_vm(cat: Cat) -> None:
    cat("vm", "run", "web")
    cat("vm", "exec", "web", "--", "sh", "-c", SERVE)
    address = cat.show("web")["address"]
    told = json.loads(cat("vm", "port", "add", "web", "2376", "--json"))
    assert told["changed"] is True and [port["host"] for port in told["places"]] == [2376]
    assert http(address, 2376) == "web"
    assert json.loads(cat("vm", "port", "add", "web", "2376", "--json"))["changed"] is False
    assert "2376" in cat("vm", "list")
    os.kill(cat.qemus()[0], signal.SIGKILL)
    cat.wait_status("web", "stopped")
    cat("vm", "start", "web")
    cat("vm", "exec", "web", "--", "sh", "-c", SERVE)
    assert http(address, 2376) == "web"
    cat("vm", "port", "remove", "web", "2376")
    with pytest.raises(subprocess.CalledProcessError):
        http(address, 2376)
    cat.fails("port-not-found", "vm", "port", "remove", "web", "2376", "--json")
    cat.fails("invalid-input", "vm", "port", "add", "web", "22", "--json")
    with socket.create_server((address, 2377)):
        error = cat.fails("port-in-use", "vm", "port", "add", "web", "2377", "--json")
    assert f"{address}:2377/tcp is in use by python" in error["message"]
    assert cat.show("web")["ports"] == []


# --- who else is there


def test_a_vm_moves_when_another_home_has_its_address(cat: Cat, shared: Cat) -> None:
    """Two vms of two homes that were given the same address: who starts second moves, and says so."""
    theirs = shared.show("web")["address"]
    cat.create("web")
    spec = cat.home / "vms" / "web" / "vm.json"
    spec.write_text(json.dumps({**json.loads(spec.read_text()), "address": theirs}))
    done = cat.try_("vm", "start", "web")
    assert done.returncode == 0
    ours = cat.show("web")
    assert ours["address"] != theirs
    assert f"somebody has {theirs}:20022: web moves to {ours['address']}:20022" in done.stderr
    assert json.loads(spec.read_text())["address"] == ours["address"]
    config = (cat.home / "vms" / "web" / "ssh_config").read_text()
    assert f"HostName {ours['address']}\n" in config
    assert hostname(cat, "web") == hostname(shared, "web") == "web"
    assert cat.exec("web", "cat /etc/machine-id") != shared.exec("web", "cat /etc/machine-id")
    assert shared.show("web")["address"] == theirs
    cat("vm", "restart", "web")
    assert cat.show("web")["address"] == ours["address"]


def test_two_homes_start_vms_of_the_same_address_at_once(cat: Cat, cache: Path, request: pytest.FixtureRequest) -> None:
    for other in cat_in(new_home(), cache, request):
        address = cat.create("web")["address"]
        other.create("web")
        spec = other.home / "vms" / "web" / "vm.json"
        spec.write_text(json.dumps({**json.loads(spec.read_text()), "address": address}))
        starting = [home.popen("vm", "start", "web") for home in (cat, other)]
        said = [process.communicate() for process in starting]
        assert [process.returncode for process in starting] == [0, 0], said
        found = [home.show("web")["address"] for home in (cat, other)]
        assert address in found and len(set(found)) == 2
        assert [hostname(home, "web") for home in (cat, other)] == ["web", "web"]


def test_a_vm_of_an_older_appcat_gets_an_address_when_it_starts(cat: Cat) -> None:
    cat.create("web", "--publish", "80")
    spec = cat.home / "vms" / "web" / "vm.json"
    old = {key: value for key, value in json.loads(spec.read_text()).items() if key not in ("address", "networks")}
    spec.write_text(json.dumps({**old, "schema": 2, "ssh_port": 23456, "ports": []}))
    before = cat.show("web")
    assert (before["address"], before["ssh"]["address"], before["ssh"]["port"]) == ("", "127.0.0.1", 23456)
    assert cat("hosts") == ""
    cat("vm", "start", "web")
    after = cat.show("web")
    assert after["address"].startswith("127.77.")
    assert after["ssh"]["address"] == after["address"]
    assert hostname(cat, "web") == "web"
    assert cat("hosts").startswith(after["address"])


# --- what a user may listen on


@pytest.fixture
def alone(cache: Path, request: pytest.FixtureRequest) -> Iterator[Cat]:
    """A home on a host of its own, as far as its network goes, for somebody who has no privilege there."""
    if os.getuid() != 0:
        pytest.skip("a network of its own takes root to make")
    with subprocess.Popen(["unshare", "-n", "sh", "-c", "ip link set lo up && echo up && exec sleep 600"],
                          stdout=subprocess.PIPE, text=True) as holder:  # fmt: skip
        assert holder.stdout is not None
        try:
            if holder.stdout.readline() != "up\n":
                pytest.skip("this container may not make a network")
            for cat in cat_in(new_home(), cache, request):
                cat.prefix = (
                    *("nsenter", f"--net=/proc/{holder.pid}/ns/net"),
                    *("setpriv", "--bounding-set", "-net_bind_service", "--inh-caps", "-net_bind_service", "--"),
                )
                yield cat
        finally:
            holder.kill()


def with_privilege(cat: Cat) -> Cat:
    return dataclasses.replace(cat, prefix=cat.prefix[:2])


def shell(cat: Cat, line: str) -> None:
    subprocess.run([*cat.prefix[:2], "sh", "-e", "-c", line], check=True, timeout=60)


def test_a_low_number_is_higher_until_the_remedy_was_taken(alone: Cat) -> None:
    alone("vm", "run", "web", "-p", "80")
    alone("vm", "exec", "web", "--", "sh", "-c", SERVE)
    address = alone.show("web")["address"]
    before = ports(alone, "web")
    assert list(before) == ["20022/tcp", "20080/tcp"]
    remedy = "sudo sysctl net.ipv4.ip_unprivileged_port_start=80"
    assert before["20080/tcp"]["advice"] == (
        f"not at port 80, since this user may not listen below 1024: {remedy}, then: appcat vm port add web 80"
    )
    for said in (alone("vm", "port", "list", "web"), alone("vm", "show", "web")):
        assert f"{address}:20080" in said and f"{address}:80 " not in said
        assert remedy in said
    assert http(address, 20080, alone) == "web"
    # Somebody who may, asks a QEMU that may not.
    assert json.loads(with_privilege(alone)("vm", "port", "add", "web", "80", "--json"))["places"][0]["host"] == 20080
    shell(alone, f"{remedy.removeprefix('sudo ')} >&2")
    alone("vm", "port", "add", "web", "80")
    after = ports(alone, "web")
    assert list(after) == ["20022/tcp", "80/tcp", "20080/tcp"]
    assert "advice" not in after["20080/tcp"]
    assert http(address, 80, alone) == http(address, 20080, alone) == "web"
    shell(alone, "sysctl net.ipv4.ip_unprivileged_port_start=22 >&2")
    alone("vm", "restart", "web")
    assert list(ports(alone, "web")) == ["20022/tcp", "22/tcp", "80/tcp", "20080/tcp"]
    assert alone.show("web")["ssh"]["ports"] == [20022, 22]
    alone("vm", "clone", "web", "copy")
    assert list(ports(alone, "copy")) == ["20022/tcp", "22/tcp", "80/tcp", "20080/tcp"]


def test_a_program_that_listens_everywhere_is_worked_around(alone: Cat) -> None:
    """The host's own SSH and web servers have 22 and 80 of every address, somebody else 20022."""
    mighty = with_privilege(alone)
    servers = "import socket, time\nall = [socket.create_server(('', port)) for port in (22, 80, 20022)]\n"
    listening = [*alone.prefix[:2], "python3", "-c", f"{servers}print('up', flush=True)\ntime.sleep(600)"]
    with subprocess.Popen(listening, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None and server.stdout.readline() == "up\n"
            mighty("vm", "run", "web", "-p", "80")
            there = ports(mighty, "web")
            assert list(there) == ["20023/tcp", "20080/tcp"]
            assert there["20080/tcp"]["advice"].startswith("not at port 80, since a program listens on it everywhere")
            assert hostname(mighty, "web") == "web"
        finally:
            server.kill()
    address = mighty.show("web")["address"]
    mighty("vm", "restart", "web")
    assert list(ports(mighty, "web")) == ["20022/tcp", "22/tcp", "80/tcp", "20080/tcp"]
    assert mighty.show("web")["address"] == address


def test_an_ordinary_user_has_port_80_higher(reader: Reader) -> None:
    """Their own installation, their own home, a clean environment."""
    assert reader.type("appcat vm run web -q --publish 80 --publish 2376").returncode == 0
    listed = {port["host"]: port for port in json.loads(reader.type("appcat vm port list web --json").stdout)}
    shown = reader.type("appcat vm show web").stdout
    if may_listen(80) and os.getuid() != 0:
        assert list(listed) == [20022, 22, 80, 20080, 2376]
        return
    lowest = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    expected = [*(number for number in (20022, 22) if number >= lowest), *([80] if lowest <= 80 else []), 20080, 2376]
    assert list(listed) == expected
    if lowest > 80:
        assert "sudo sysctl net.ipv4.ip_unprivileged_port_start=80" in shown
    serve = reader.type(f"appcat vm exec web -- sh -c {shlex.quote(SERVE)}")
    assert serve.returncode == 0, serve.stderr
    address = listed[2376]["address"]
    assert http(address, 20080) == http(address, 2376) == "web"
    done = reader.type("appcat hosts install")
    assert done.returncode != 0
    assert f"Hint:  let root do it: sudo env APPCAT_HOME={reader.appcat_home} " in done.stderr


# --- names and inventories


def test_ssh_and_ansible_know_all_vms(cat: Cat) -> None:
    """``ssh -F`` with the configuration of all; and with the very arguments that Ansible would give it."""
    cat("vm", "run", "web", "--instant", "--label", "role=front")
    cat("vm", "clone", "web", "db")
    cat.create("off")
    (cat.home / "all.conf").write_text(cat("vm", "ssh-config"))
    for name in ("web", "db"):
        done = subprocess.run(
            ["ssh", "-F", str(cat.home / "all.conf"), name, "hostname"], capture_output=True, text=True, timeout=60
        )
        assert done.stdout == f"{name}\n", done.stderr
    found = json.loads(cat("inventory"))["all"]
    groups = {group: sorted(told["hosts"]) for group, told in found["children"].items()}
    assert groups == {
        "label_role_front": ["db", "web"],
        "status_running": ["db", "web"],
        "status_stopped": ["off"],
        "template_pico": ["db", "off", "web"],
    }
    listed = json.loads(cat("inventory", "--list"))
    assert listed["_meta"]["hostvars"] == found["hosts"]
    for name in ("web", "db"):
        told = found["hosts"][name]
        assert told == json.loads(cat("inventory", "--host", name))
        assert as_ansible(told, "hostname") == f"{name}\n"
    cat.fails("vm-not-found", "inventory", "--host", "nobody", "--json")


def as_ansible(told: dict[str, Any], command: str) -> str:
    """What Ansible's ssh connection does with these variables (``plugins/connection/ssh.py``)."""
    argv = ["ssh", *shlex.split(told["ansible_ssh_common_args"]), "-o", f"Port={told['ansible_port']}"]
    argv += ["-o", f'IdentityFile="{told["ansible_ssh_private_key_file"]}"', "-o", "PasswordAuthentication=no"]
    argv += ["-o", f'User="{told["ansible_user"]}"', told["ansible_host"], command]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_inventory_of_another_appcat_goes_through_its_daemon(cat: Cat) -> None:
    cat("vm", "run", "web", "--instant", "-p", "2376")
    cat("daemon", "start")
    try:
        with tempfile.TemporaryDirectory(prefix="appcat-test-") as directory:
            url = json.loads(cat("daemon", "status", "--json"))["addresses"][0]
            away = Cat(Path(directory) / "my home", cat.cache, extra={"APPCAT_HOST": url})
            told = json.loads(away("inventory"))["all"]["hosts"]["web"]
            assert as_ansible(told, "hostname") == "web\n"
            assert told == json.loads(away("inventory", "--host", "web"))
            away("vm", "port", "add", "web", "81")
            assert [port["guest"] for port in away.show("web")["ports"]][-1] == 81
            away("vm", "port", "remove", "web", "81")
            assert away.show("web") == cat.show("web")
            assert away.fails("local-only", "hosts", "--json")["hint"]
    finally:
        cat("daemon", "stop")


@pytest.mark.soak
def test_hosts_file_is_whole_whatever_is_killed(cat: Cat, tmp_path: Path) -> None:
    """kill -9 during install and remove: the file has all names or none, and what was there before."""
    print(f"seed {SEED}")
    dice = random.Random(SEED)
    for name in ("web", "db"):
        cat.create(name)
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost\n::1 localhost")
    before = hosts.read_bytes()
    cat("hosts", "install", "--file", str(hosts))
    full = hosts.read_bytes()
    assert {"web", "db", "web.appcat", "db.appcat"} < set(names_of(full))
    for number in range(ROUNDS):
        victim = cat.popen("hosts", ("remove", "install")[number % 2], "--file", str(hosts), start_new_session=True)
        time.sleep(dice.uniform(0.05, 0.4))
        victim.kill()
        victim.communicate()
        assert hosts.read_bytes() in (before, full)
    cat("hosts", "install", "--file", str(hosts))
    assert hosts.read_bytes() == full
    cat("hosts", "remove", "--file", str(hosts))
    assert hosts.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["hosts"]


@pytest.mark.soak
def test_kill_the_command_while_ports_change(cat: Cat) -> None:
    """kill -9 during port add and remove: the vm goes on, and the same command again does what it says."""
    print(f"seed {SEED}")
    dice = random.Random(SEED)
    cat("vm", "run", "web")
    cat("vm", "exec", "web", "--", "sh", "-c", SERVE)
    address = cat.show("web")["address"]
    for number in range(ROUNDS):
        verb = ("add", "remove")[number % 2]
        victim = cat.popen("vm", "port", verb, "web", "2376", start_new_session=True)
        time.sleep(dice.uniform(0.05, 0.5))
        victim.kill()
        victim.communicate()
        if verb == "add":
            cat("vm", "port", "add", "web", "2376")
            assert http(address, 2376) == "web"
        else:
            again = cat.try_("vm", "port", "remove", "web", "2376", "--json")
            assert again.returncode in (0, 3), again.stderr  # it may be gone already
            assert cat.show("web")["ports"] == []
            with pytest.raises(subprocess.CalledProcessError):
                http(address, 2376)


@pytest.mark.soak
def test_kill_the_command_while_a_vm_moves(cat: Cat, shared: Cat) -> None:
    """kill -9 during a start that moves the vm: its files agree with what runs, and nobody else is disturbed."""
    print(f"seed {SEED}")
    dice = random.Random(SEED)
    theirs = shared.show("web")["address"]
    cat.create("web")
    spec = cat.home / "vms" / "web" / "vm.json"
    for _ in range(ROUNDS):
        cat.try_("vm", "kill", "web")
        spec.write_text(json.dumps({**json.loads(spec.read_text()), "address": theirs}))
        victim = cat.popen("vm", "start", "web", "--no-wait", start_new_session=True)
        time.sleep(dice.uniform(0.3, 2.0))
        victim.kill()
        victim.communicate()
        cat("vm", "start", "web")
        assert cat.show("web")["address"] != theirs
        assert hostname(cat, "web") == "web"
    assert hostname(shared, "web") == "web"
    assert shared.show("web")["address"] == theirs
