"""The life of a vm, through the command line, with real guests."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time

import pytest

from tests.cat import Cat, wait_until

pytestmark = pytest.mark.vm


def test_run_prints_what_the_command_prints_and_leaves_the_vm_running(cat: Cat) -> None:
    assert cat("vm", "run", "web", "--", "uname", "-sm").split() == ["Linux", os.uname().machine]
    listed = cat.list()["web"]
    assert listed["status"] == "running"
    assert listed["template"] == "pico"


def test_create_start_stop_start_delete(cat: Cat) -> None:
    made = cat.create("web", "--memory", "192M", "--cpus", "2", "--label", "a=b", "--disk", "64M")
    assert (made["status"], made["memory"], made["cpus"], made["labels"]) == ("stopped", 192 << 20, 2, {"a": "b"})
    assert cat.qemus() == []
    cat("vm", "start", "web")
    assert cat("vm", "exec", "web", "nproc").strip() == "2"
    cat("vm", "exec", "web", "--", "sh", "-c", "echo kept > /data/x; echo lost > /tmp/x")
    cat("vm", "stop", "web")
    assert cat.status("web") == "stopped"
    assert cat.show("web")["last_exit"]["cause"] == "requested"
    cat("vm", "start", "web")
    assert cat("vm", "exec", "web", "cat", "/data/x") == "kept\n"
    assert cat.try_("vm", "exec", "web", "cat", "/tmp/x").returncode == 1
    assert cat.fails("vm-running", "vm", "delete", "web", "--json")["hint"]
    cat("vm", "delete", "--force", "web")
    assert cat.list() == {}
    assert cat.qemus() == []
    assert list((cat.home / "vms").iterdir()) == []


@pytest.mark.smoke
def test_start_is_idempotent_and_stop_too(cat: Cat) -> None:
    cat.create("web")
    assert "stopped already" in cat("vm", "stop", "web")
    cat("vm", "start", "web", "--no-wait")
    pid = cat.show("web")["run"]["pid"]
    assert "running already" in cat("vm", "start", "web")
    assert cat.show("web")["run"]["pid"] == pid
    assert cat("vm", "kill", "web") == "web\n"
    assert "stopped already" in cat("vm", "kill", "web")


@pytest.mark.smoke
def test_guest_identity(shared: Cat) -> None:
    vm = shared.show("web")
    inside = shared("vm", "exec", "web", "--", "sh", "-c", "hostname; cat /etc/machine-id /sys/class/net/eth0/address")
    hostname, machine_id, mac = inside.split()
    assert hostname == "web"
    assert len(machine_id) == 32
    assert mac == vm["mac"]
    ours = int(time.time())
    theirs = int(shared("vm", "exec", "web", "date", "+%s"))
    assert abs(theirs - ours) < 30
    fields = shared("vm", "exec", "web", "cat", "/proc/mounts").split("\n")
    assert any(line.split()[1:3] == ["/data", "ext4"] for line in fields if line)


def test_host_is_reachable_by_name(shared: Cat) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.settimeout(60)
        script = f"echo hello | nc host.appcat.internal {server.getsockname()[1]}"
        client = shared.popen("vm", "exec", "web", "--", "sh", "-c", script)
        connection, _ = server.accept()
        with connection:
            connection.settimeout(60)
            assert connection.recv(100) == b"hello\n"
        client.communicate(timeout=60)


@pytest.mark.smoke
def test_exec_passes_streams_arguments_and_status(shared: Cat) -> None:
    assert shared("vm", "exec", "web", "--", "cat", stdin="through\n") == "through\n"
    awkward = ["a b", "$HOME", "it's", '"', "*", "\\", ""]
    assert shared("vm", "exec", "web", "--", "printf", "%s|", *awkward) == "|".join([*awkward, ""])
    done = shared.try_("vm", "exec", "web", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 7)
    big = "0123456789abcdef" * 65536
    assert shared("vm", "exec", "web", "--", "cat", stdin=big) == big


def test_exec_streams_as_it_comes(shared: Cat) -> None:
    process = shared.popen("vm", "exec", "web", "--", "sh", "-c", "echo first; exec cat >&2", stdin=subprocess.PIPE)
    assert process.stdout and process.stdin
    assert process.stdout.readline() == "first\n"
    assert process.poll() is None
    process.stdin.close()
    assert process.wait(60) == 0


def test_exec_timeout_ends_the_command(shared: Cat) -> None:
    done = shared.try_("vm", "exec", "web", "--timeout", "2", "--", "sleep", "4321")
    assert done.returncode == 124
    assert "Traceback" not in done.stderr
    wait_until(
        lambda: "sleep 4321" not in shared("vm", "exec", "web", "--", "ps"), timeout=30, what="the end of the command"
    )


def test_plain_ssh_asks_nothing(shared: Cat) -> None:
    assert shared("vm", "ssh", "web", "--", "echo", "a  b") == "a  b\n"


def test_several_names_and_partial_failure(cat: Cat) -> None:
    cat.create("a")
    cat.create("b")
    done = cat.try_("vm", "start", "--no-wait", "a", "missing", "b")
    assert done.returncode == 3
    assert sorted(done.stdout.split()) == ["a", "b"]
    assert "there is no vm 'missing'" in done.stderr
    cat("vm", "kill", "a", "b")
    cat("vm", "delete", "a", "b")
    assert cat.list() == {}


@pytest.mark.smoke
def test_ports_reach_the_guest(cat: Cat) -> None:
    tcp, udp = free_port(), free_port()
    cat("vm", "run", "web", "-p", f"{tcp}:80", "-p", f"127.0.0.1:{udp}:53/udp")
    cat("vm", "exec", "web", "--", "sh", "-c", "(echo tcp-ok | nc -l -p 80) >/dev/null 2>&1 &")
    assert read_from(tcp) == b"tcp-ok\n"
    ports = {(port["protocol"], port["host"], port["guest"]) for port in cat.show("web")["ports"]}
    assert ports == {("tcp", tcp, 80), ("udp", udp, 53)}


def test_port_in_use_is_refused_before_start_with_its_owner(cat: Cat) -> None:
    port = free_port()
    cat("vm", "create", "one", "-p", f"{port}:80")
    cat("vm", "create", "two", "-p", f"{port}:81")
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", port))
        squatter.listen()
        error = cat.fails("port-in-use", "vm", "start", "one", "--json")
        assert f"process {os.getpid()}" in error["message"]
    assert cat.status("one") == "stopped"
    cat("vm", "start", "one", "--no-wait")
    error = cat.fails("port-in-use", "vm", "start", "two", "--json")
    assert "the vm one" in error["message"]
    assert cat.status("two") == "stopped"


def test_run_refuses_a_taken_port_before_creating(cat: Cat) -> None:
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", 0))
        squatter.listen()
        cat.fails("port-in-use", "vm", "run", "web", "-p", f"{squatter.getsockname()[1]}:80", "--json")
    assert cat.list() == {}


def test_two_homes_do_not_collide(cat: Cat, shared: Cat) -> None:
    cat("vm", "run", "web", "--", "true")
    assert cat.show("web")["ssh"]["address"] != shared.show("web")["ssh"]["address"]
    assert shared("vm", "exec", "web", "hostname") == "web\n"


def test_guest_poweroff_is_told(cat: Cat) -> None:
    cat("vm", "run", "web")
    cat.try_("vm", "exec", "web", "poweroff")
    cat.wait_status("web", "stopped")
    wait_until(lambda: cat.show("web")["last_exit"]["cause"] == "guest", what="the keeper's word")


def test_power_button_when_the_agent_is_dead(cat: Cat) -> None:
    cat("vm", "run", "web", "--", "sh", "-c", "sed -i /qemu-ga/d /etc/inittab; kill -HUP 1; sleep 1; killall qemu-ga")
    cat("vm", "stop", "web")
    assert cat.status("web") == "stopped"


def test_stop_deadline_leaves_the_vm_running(cat: Cat) -> None:
    cat("vm", "run", "web")
    os.kill(cat.qemus()[0], signal.SIGSTOP)
    error = cat.fails("monitor-silent", "vm", "stop", "--timeout", "2", "web", "--json")
    assert "kill" in error["hint"]
    assert cat.status("web") == "unresponsive"
    assert cat("vm", "kill", "web") == "web\n"
    assert cat.status("web") == "stopped"


def test_guest_reboot_keeps_identity(cat: Cat) -> None:
    cat("vm", "run", "web")
    before = cat("vm", "exec", "web", "cat", "/etc/machine-id", "/proc/sys/kernel/random/boot_id").split()
    cat.try_("vm", "exec", "web", "reboot")
    wait_until(lambda: rebooted(cat, before), timeout=120, what="the guest's reboot")


def rebooted(cat: Cat, before: list[str]) -> bool:
    done = cat.try_("vm", "exec", "web", "cat", "/etc/machine-id", "/proc/sys/kernel/random/boot_id")
    now = done.stdout.split()
    return done.returncode == 0 and now[0] == before[0] and now[1] != before[1]


def test_json_of_list_is_an_array_of_objects(shared: Cat) -> None:
    (vm,) = json.loads(shared("vm", "list", "--json"))
    assert (vm["name"], vm["status"], vm["labels"]) == ("web", "running", {"role": "test"})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def read_from(port: int) -> bytes:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            if data := connection.recv(100):
                return data
        time.sleep(0.2)
    raise AssertionError("nothing came")
