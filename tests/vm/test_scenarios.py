"""The same command lines in this process, and through a daemon: its socket, TLS with a token, SSH.

Each way has a client with a home of its own, in which no vm is. What is asserted does not know which way it is.
"""

from __future__ import annotations

import json
import os
import random
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from appcat.client import Client
from appcat.services.ssh_ports import free_ssh_port
from appcat.settings import Settings
from appcat.store.layout import Layout
from tests.cat import PATIENCE, Cat, wait_until
from tests.conftest import cat_in, new_home
from tests.ssh_host import SshHost, ssh_host
from tests.vm.test_terminal import person

pytestmark = [pytest.mark.vm, pytest.mark.xdist_group("scenarios")]

WAYS = ("in process", "unix", "https", "ssh")
MIB = 1 << 20


@dataclass(frozen=True)
class Server:
    """A home with a daemon at three doors."""

    cat: Cat
    url: str
    fingerprint: str
    token_file: Path
    ssh: SshHost

    def client(self, way: str, home: Path) -> Cat:
        """Who works with it this way."""
        if way == "in process":
            return self.cat
        extra = {
            "unix": {"APPCAT_HOST": f"unix://{layout(self.cat).daemon_socket}"},
            "https": {
                "APPCAT_HOST": self.url,
                "APPCAT_TOKEN_FILE": str(self.token_file),
                "APPCAT_FINGERPRINT": self.fingerprint,
            },
            "ssh": {
                "APPCAT_HOST": f"ssh://127.0.0.1:{self.ssh.port}",
                "PATH": f"{self.ssh.programs}:{os.environ['PATH']}",
            },
        }[way]
        return Cat(home, self.cat.cache, extra=extra)


def layout(cat: Cat) -> Layout:
    return Layout(Settings.load({"APPCAT_HOME": str(cat.home)}))


@pytest.fixture(scope="module")
def server(cache: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    for cat in cat_in(new_home(), cache, request):
        port = free_port()
        told = json.loads(cat("daemon", "start", "--listen", f"127.0.0.1:{port}", "--tls", "--json"))
        token_file = cat.home.parent / f"{cat.home.name}.token"
        cat("daemon", "token", "add", "tests", "--output", str(token_file))
        programs = Path(sys.executable).parent  # where the appcat is that ssh finds
        environ = {**cat.env, "PATH": f"{programs}:{os.environ['PATH']}"}
        with tempfile.TemporaryDirectory(prefix="appcat-test-") as keys, ssh_host(Path(keys), environ) as ssh:
            try:
                yield Server(cat, f"https://127.0.0.1:{port}", told["fingerprint"], token_file, ssh)
            finally:
                cat("daemon", "stop")
                token_file.unlink()


# A group for each way: the workers share them.
@pytest.fixture(scope="module", params=[pytest.param(way, marks=pytest.mark.xdist_group(way)) for way in WAYS])
def place(server: Server, request: pytest.FixtureRequest) -> Iterator[Cat]:
    """A client of each kind, and a running vm called ``web``."""
    with tempfile.TemporaryDirectory(prefix="appcat-test-") as home:
        cat = server.client(request.param, Path(home))
        made = json.loads(cat("vm", "run", "web", "--disk", "64M", "--label", "role=front", "--json"))
        assert (made["name"], made["status"], made["labels"]) == ("web", "running", {"role": "front"})
        try:
            yield cat
        finally:
            cat("vm", "delete", "--force", *cat.list())


def free_port() -> int:
    return free_ssh_port(set(), random.randrange(5000))


# --- looking


def test_looking(place: Cat) -> None:
    assert place.list()["web"]["status"] == "running"
    assert place("vm", "list", "-q", "--filter", "label=role=front") == "web\n"
    assert place("vm", "list", "-q", "--filter", "label=role=back") == ""
    shown = place.show("web")
    assert shown["disks"][0]["name"] == "data"
    assert shown["run"]["accelerator"]
    assert "web" in place("vm", "list")
    assert "machine" in place("vm", "show", "web")


def test_stats(place: Cat) -> None:
    found = json.loads(place("vm", "stats", "web", "--json"))
    assert [usage["name"] for usage in found["vms"]] == ["web"]
    assert found["vms"][0]["memory"] > 16 * MIB
    assert found["total"]["memory"] == found["vms"][0]["memory"]


def test_errors_are_the_same(place: Cat) -> None:
    assert place.fails("vm-not-found", "vm", "show", "nobody", "--json")["hint"]
    assert place.try_("vm", "show", "nobody").returncode == 3
    place.fails("invalid-name", "vm", "create", "No_Name", "--json")
    place.fails("already-exists", "vm", "create", "web", "--json")
    place.fails("vm-running", "vm", "delete", "web", "--json")
    place.fails("invalid-filter", "vm", "list", "--filter", "x=y", "--json")
    place.fails("not-yet", "vmpower", "suspend", "web", "--json")
    place.fails("unknown-setting", "config", "get", "nonsense", "--json")
    place.fails("disk-not-found", "vm", "disk", "remove", "web", "nodisk", "--json")


def test_templates_config_and_doctor(place: Cat) -> None:
    templates = {template["name"]: template for template in json.loads(place("template", "list", "--json"))}
    assert templates["pico"]["image"]["digest"]
    assert json.loads(place("config", "set", "cpus", "2", "--json"))["value"] == "2"
    assert place("config", "get", "cpus") == "2\n"
    place("config", "unset", "cpus")
    assert place.try_("config", "get", "cpus").returncode == 1
    assert {"qemu", "memory"} <= {check["name"] for check in json.loads(place("doctor", "--json"))}


def test_a_bug_report_becomes_a_file_here(place: Cat, tmp_path: Path) -> None:
    told = json.loads(place("doctor", "--bundle", str(tmp_path / "report.tgz"), "--json"))
    assert "doctor.json" in told["files"]
    assert (tmp_path / "report.tgz").stat().st_mode & 0o777 == 0o600
    place.fails("already-exists", "doctor", "--bundle", str(tmp_path / "report.tgz"), "--json")


# --- changing


def test_a_life(place: Cat) -> None:
    made = place.create("life", "--cpus", "1", "--memory", "192M")
    assert (made["status"], made["memory"]) == ("stopped", 192 * MIB)
    assert (
        json.loads(place("vm", "edit", "life", "--memory", "128M", "--restart", "no", "--json"))["memory"] == 128 * MIB
    )
    assert json.loads(place("vm", "rename", "life", "other", "--json"))["name"] == "other"
    assert json.loads(place("vm", "label", "other", "a=b", "--json")) == {"a": "b"}
    assert place("vm", "label", "other") == "a=b\n"
    assert place("vm", "label", "other", "a-") == "other\n"
    assert place("vm", "start", "other") == "other\n"
    assert place("vm", "start", "other") == "other is running already\n"
    assert json.loads(place("vm", "pause", "other", "--json")) == [{"name": "other", "changed": True}]
    assert json.loads(place("vm", "unpause", "other", "--json")) == [{"name": "other", "changed": True}]
    assert place("vm", "wait", "other") == "other\n"
    assert place("vm", "stop", "other") == "other\n"
    assert place.show("other")["last_exit"]["reason"]
    assert place("vm", "delete", "other") == "other\n"
    assert "other" not in place.list()


def test_progress_is_told(place: Cat) -> None:
    done = place.try_("vm", "run", "--rm", "brief", "--", "echo", "from", "within")
    assert (done.returncode, done.stdout) == (0, "from within\n")
    assert "waiting for the guest of brief" in done.stderr
    assert "brief" not in place.list()


def test_several_at_once(place: Cat) -> None:
    for name in ("one", "two"):
        place.create(name)
    done = place.try_("vm", "delete", "one", "nobody", "two")
    assert done.returncode == 3
    assert sorted(done.stdout.split()) == ["one", "two"]
    assert "nobody" in done.stderr


def test_clones(place: Cat) -> None:
    told = json.loads(place("vm", "clone", "web", "copy", "--count", "2", "--verify", "--json"))
    assert (told["kind"], [made["name"] for made in told["clones"]]) == ("instant", ["copy-1", "copy-2"])
    assert len(told["verified"]) == 3
    assert place("vm", "exec", "copy-2", "--", "hostname") == "copy-2\n"
    assert json.loads(place("vm", "flatten", "copy-1", "--json"))[0]["name"] == "copy-1"
    place.fails("already-exists", "vm", "clone", "web", "copy-1", "--json")
    place("vm", "delete", "--force", "copy-1", "copy-2")


def test_ports(place: Cat) -> None:
    port = free_port()
    place.exec("web", "mkdir -p /srv; echo served > /srv/x; pidof httpd || httpd -p 80 -h /srv")
    assert json.loads(place("vm", "port", "add", "web", f"{port}:80", "--json"))["changed"] is True
    assert place("vm", "port", "add", "web", f"{port}:80").endswith("is forwarded already\n")
    assert fetched(port) == "served\n"
    listed = json.loads(place("vm", "port", "list", "web", "--json"))
    assert {"host": port, "guest": 80, "address": "127.0.0.1", "protocol": "tcp"} in listed
    (there,) = json.loads(place("vm", "port", "add", "web", "2376", "--json"))["places"]
    assert (there["host"], there["address"]) == (2376, place.show("web")["address"])
    assert there in json.loads(place("vm", "port", "list", "web", "--json"))
    place("vm", "port", "remove", "web", "2376")
    place("vm", "port", "remove", "web", f"{port}:80")
    place.fails("port-not-found", "vm", "port", "remove", "web", f"{port}:80", "--json")


def test_disks(place: Cat) -> None:
    added = json.loads(place("vm", "disk", "add", "web", "more", "32M", "--json"))
    assert [disk["name"] for disk in added] == ["data", "more"]
    assert "used" not in added[0]
    assert json.loads(place("vm", "disk", "grow", "web", "more", "64M", "--json"))[1]["size"] == 64 * MIB
    assert json.loads(place("vm", "disk", "list", "web", "--json"))[1]["used"] >= 0
    place("vm", "disk", "remove", "web", "more")
    assert [disk["name"] for disk in json.loads(place("vm", "disk", "list", "web", "--json"))] == ["data"]


# --- networks


def test_networks(place: Cat) -> None:
    made = json.loads(place("network", "create", "lab", "--subnet", "10.79.3.0/24", "--label", "a=b", "--json"))
    assert (made["subnet"], made["internet"], made["labels"], made["vms"]) == ("10.79.3.0/24", True, {"a": "b"}, [])
    place.fails("network-exists", "network", "create", "lab", "--json")
    place.fails("subnet-in-use", "network", "create", "other", "--subnet", "10.79.3.128/25", "--json")
    place.fails("invalid-subnet", "network", "create", "other", "--subnet", "8.8.8.0/24", "--json")
    try:
        attached = json.loads(place("vm", "network", "attach", "web", "lab:10.79.3.7", "--json"))
        assert [(one["network"], one["address"]) for one in attached] == [("lab", "10.79.3.7")]
        assert json.loads(place("vm", "network", "list", "web", "--json")) == attached
        assert place.show("web")["networks"] == place.list()["web"]["networks"] == attached
        assert "10.79.3.7" in place("vm", "list")
        assert "web.lab.appcat" in place("vm", "show", "web")
        shown = json.loads(place("network", "show", "lab", "--json"))
        assert (shown["vms"], shown["state"], shown["conflicts"]) == (["web"], "up", [])
        (member,) = shown["members"]
        assert (member["vm"], member["status"], member["mac"]) == ("web", "running", attached[0]["mac"])
        assert "10.79.3.7" in place("network", "show", "lab")
        assert "10.79.3.7/24" in place.exec("web", "ip -o -4 address")
        assert place.exec("web", "ping -c 1 -W 5 web.lab.appcat >/dev/null && echo reached").strip() == "reached"
        place.fails("address-in-use", "vm", "create", "other", "--network", "lab:10.79.3.7", "--json")
        place.fails("network-not-found", "vm", "create", "other", "--network", "nowhere", "--json")
        place.fails("network-in-use", "network", "delete", "lab", "--json")
    finally:
        detached = place.try_("vm", "network", "detach", "web", "lab", "--json")
    assert json.loads(detached.stdout) == []
    assert "10.79.3.7" not in place.exec("web", "ip -o -4 address")
    place.fails("attachment-not-found", "vm", "network", "detach", "web", "lab", "--json")
    assert place("network", "delete", "lab") == "lab\n"
    assert place.try_("network", "delete", "lab").returncode == 3
    assert place("network", "list", "-q") == "default\n"


def test_new_vms_on_networks(place: Cat) -> None:
    place("network", "create", "lab", "--no-internet")
    place("network", "create", "twin", "--twin", "lab")
    made = json.loads(place("vm", "run", "node", "--network", "lab", "--network", "default", "--json"))
    assert [one["network"] for one in made["networks"]] == ["lab", "default"]
    place("vm", "clone", "node", "fork", "--fork", "--network", "twin", "--network", "default")
    fork = place.show("fork")["networks"]
    assert [one["network"] for one in fork] == ["twin", "default"]
    assert fork[0]["address"] == made["networks"][0]["address"]
    assert fork[1]["address"] != made["networks"][1]["address"]
    assert place.exec("fork", "ping -c 1 -W 5 node >/dev/null && echo reached").strip() == "reached"
    place("vm", "create", "alone", "--network", "none")
    assert place.show("alone")["networks"] == []
    place("vm", "delete", "--force", "node", "fork", "alone")
    assert place("network", "delete", "lab", "twin") == "lab\ntwin\n"


# --- inside


def test_commands(place: Cat) -> None:
    done = place.try_("vm", "exec", "web", "--", "sh", "-c", "cat; echo err >&2; exit 7", stdin="in")
    assert (done.returncode, done.stdout, done.stderr) == (7, "in", "err\n")
    assert place("vm", "exec", "web", "--", "echo", "a b", "$HOME", "*", "'") == "a b $HOME * '\n"
    assert place.try_("vm", "exec", "web", "--timeout", "1", "--", "sleep", "600").returncode == 124
    assert place.try_("vm", "exec", "nobody", "--", "true").returncode == 3
    wait_until(lambda: place.exec("web", "pidof sleep || true") == "", what="the end of the command")


def test_a_lot_of_bytes_both_ways(place: Cat) -> None:
    """More than any buffer on the way holds: both sides push back, and nobody stands still."""
    data = random.Random(1).randbytes(6 * MIB)
    done = subprocess.run(
        place.argv("vm", "exec", "web", "--", "cat"), env=place.env, input=data, capture_output=True, timeout=PATIENCE
    )
    assert (done.returncode, done.stdout == data) == (0, True)


def test_a_reader_that_leaves_ends_the_command(place: Cat) -> None:
    command = shlex.join(place.argv("vm", "exec", "web", "--", "sh", "-c", "exec yes appcat"))
    done = subprocess.run(
        ["bash", "-c", f"{command} | head -n 1; echo ${{PIPESTATUS[0]}}"],
        env=place.env,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.stdout == "appcat\n141\n"
    wait_until(lambda: place.exec("web", "pidof yes || true") == "", what="the end of the command")


def test_an_interrupt_ends_the_command(place: Cat) -> None:
    with place.popen("vm", "exec", "web", "--", "sh", "-c", "echo on; exec sleep 601") as running:
        assert running.stdout and running.stdout.readline() == "on\n"
        running.send_signal(signal.SIGINT)
        assert running.wait(PATIENCE) == 130
    wait_until(lambda: place.exec("web", "pidof sleep || true") == "", what="the end of the command")


def test_a_terminal(place: Cat) -> None:
    with person(place, "vm", "exec", "-it", "web", "--", "sh") as me:
        me.see("# ")
        me.type("stty size; echo $TERM-$((1+1))\r")
        me.see("33 101")
        me.see("xterm-2")
        me.resize(90, 40)
        me.type("until stty size | grep '40 90'; do sleep 0.1; done\r")
        me.see("\r\n40 90")
        # One process, in the foreground before it speaks: a key that comes while a shell forks meets neither.
        me.type("sh -c 'echo begun; exec sleep 602'\r")
        me.see("\r\nbegun")
        me.type("\x03")
        me.see("# ")
        me.type("exit 9\r")
        assert me.leave() == 9
    with person(place, "vm", "console", "web") as me:
        me.see("leaves it")
        me.type("\recho con-$((1+1))\r")
        me.see("con-2")
        me.type("\x1d")
        me.see("left the console of web")
        assert me.leave() == 0


def test_files(place: Cat, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "deep" / "er").mkdir(parents=True)
    (tree / "deep" / "file").write_bytes(random.Random(2).randbytes(2 * MIB))
    (tree / "deep" / "script").write_text("#!/bin/sh\n")
    (tree / "deep" / "script").chmod(0o755)
    (tree / "link").symlink_to("deep/file")
    (tree / "strange ' \n name").write_text("x")
    told = json.loads(place("vm", "cp", str(tree), "web:/root/tree", "--json"))
    assert told["files"] == 4
    place("vm", "cp", "web:/root/tree", str(tmp_path / "back"))
    assert sorted(str(path.relative_to(tmp_path / "back")) for path in (tmp_path / "back").rglob("*")) == sorted(
        str(path.relative_to(tree)) for path in tree.rglob("*")
    )
    assert (tmp_path / "back" / "deep" / "file").read_bytes() == (tree / "deep" / "file").read_bytes()
    assert (tmp_path / "back" / "deep" / "script").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "back" / "link").readlink() == Path("deep/file")
    place.fails("no-such-file", "vm", "cp", "web:/nowhere", str(tmp_path), "--json")
    place.fails("no-such-directory", "vm", "cp", str(tree), "web:/no/where", "--json")
    place.exec("web", "rm -r /root/tree")


def test_logs(place: Cat) -> None:
    assert "activate this console" in place("vm", "logs", "web")
    assert len(place("vm", "logs", "web", "--tail", "2", "--json").splitlines()) == 2
    with place.popen("vm", "logs", "web", "--follow", "--tail", "0") as following:
        lines: list[str] = []
        reader = threading.Thread(target=lambda: lines.extend(following.stdout or ()), daemon=True)
        reader.start()
        wait_until(lambda: "followed" in "".join(lines) or not said(place, "followed"), what="what was said")
        following.send_signal(signal.SIGINT)
        assert following.wait(PATIENCE) == 130
        reader.join(PATIENCE)


def said(place: Cat, word: str) -> bool:
    """Have the guest say something on its serial line."""
    place.exec("web", f"echo {word} > /dev/console")
    return True


def test_console(place: Cat) -> None:
    done = place.try_("vm", "console", "web", stdin="\necho at-the-$((40+2))\n")
    assert done.returncode == 0
    assert "at-the-42" in done.stdout


def test_a_console_is_for_one(place: Cat) -> None:
    with place.popen("vm", "console", "web", stdin=subprocess.PIPE) as first:
        assert first.stdin and first.stdout
        first.stdin.write("\necho held-$((1+1))\n")
        first.stdin.flush()
        for line in first.stdout:
            if "held-2" in line:
                break
        second = place.try_("vm", "console", "web")
        assert (second.returncode, "web is busy" in second.stderr) == (4, True)
        first.send_signal(signal.SIGINT)
        assert first.wait(PATIENCE) == 130
    assert place.try_("vm", "console", "web", stdin="\n").returncode == 0


def test_plain_ssh(place: Cat, tmp_path: Path) -> None:
    assert place("vm", "ssh", "web", "--", "hostname") == "web\n"
    (tmp_path / "config").write_text(place("vm", "ssh-config", "web"))
    argv = ["ssh", "-F", str(tmp_path / "config"), "web", "echo $((6*7))"]
    done = subprocess.run(argv, env=place.env, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (0, "42\n")
    private = [path for path in place.home.rglob("*") if path.is_file() and path.name == "id_ed25519"]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in private)


def test_ports_of_this_computer(place: Cat) -> None:
    place.exec("web", "mkdir -p /srv; echo served > /srv/x; pidof httpd || httpd -p 80 -h /srv")
    port = free_port()
    with place.popen("vm", "port", "forward", "web", f"{port}:80", f"{free_port()}:1") as forwarding:
        assert forwarding.stdout and "leads to port 80 of web" in forwarding.stdout.readline()
        assert [fetched(port) for _ in range(3)] == ["served\n"] * 3
        forwarding.send_signal(signal.SIGINT)
        assert forwarding.wait(PATIENCE) == 130


def fetched(port: int) -> str:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(b"GET /x HTTP/1.0\r\n\r\n")
        return connection.makefile().read().partition("\n\n")[2]


# --- only from elsewhere


def test_what_makes_no_sense_elsewhere_says_so(place: Cat, server: Server) -> None:
    if place is server.cat:
        pytest.skip("this is the way that makes sense")
    for line in ("uninstall --yes", "keeper status", "daemon status", "vm ssh-config --install", "guest getip web"):
        place.fails("local-only", *line.split(), "--json")


def test_one_login_serves_many_connections(server: Server, tmp_path: Path) -> None:
    cat = server.client("ssh", tmp_path)
    cat("vm", "list")
    before = server.ssh.connections
    for _ in range(3):
        cat("vm", "list")
    assert server.ssh.connections == before
    assert set(server.ssh.commands) == {"appcat daemon dial"}


def test_a_wrong_token_opens_nothing(server: Server, tmp_path: Path) -> None:
    cat = server.client("https", tmp_path)
    cat.extra["APPCAT_TOKEN"] = "wrong"
    done = cat.try_("vm", "list", "--json")
    assert done.returncode != 0
    assert "token" in json.loads(done.stderr)["message"]
    cat.extra["APPCAT_FINGERPRINT"] = "0" * 64
    cat.fails("fingerprint-mismatch", "vm", "list", "--json")


def test_contexts(server: Server, tmp_path: Path) -> None:
    cat = Cat(tmp_path, server.cat.cache)
    token, mark = str(server.token_file), f"sha256:{server.fingerprint}"
    cat("context", "add", "lab", server.url, "--token-file", token, "--fingerprint", mark)
    assert cat("vm", "list", "--json") == "[]\n"
    assert "pico" in [found["name"] for found in json.loads(cat("template", "list", "--json", "--context", "lab"))]
    cat("context", "use", "lab")
    assert [found["name"] for found in json.loads(cat("context", "list", "--json")) if found["current"]] == ["lab"]
    cat("vm", "create", "through-a-context")
    assert "through-a-context" in server.cat.list()
    assert "through-a-context" not in json.loads(cat("vm", "list", "--json", "--context", "local"))
    cat("vm", "delete", "through-a-context")
    cat("context", "remove", "lab")
    assert cat("vm", "list", "--json") == "[]\n"


# --- the library


@pytest.mark.parametrize("way", ["unix", "https"])
def test_the_library(server: Server, way: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("APPCAT_HOME", str(tmp_path))
    socket_url = f"unix://{layout(server.cat).daemon_socket}"
    opened: dict[str, Callable[[], Client]] = {
        "unix": lambda: Client(socket_url),
        "https": lambda: Client(server.url, token_file=server.token_file, fingerprint=server.fingerprint),
    }
    with opened[way]() as appcat:
        from appcat.services.create import CreateRequest

        assert appcat.create(CreateRequest("library"))["status"] == "stopped"
        found: list[Any] = []
        threads = [threading.Thread(target=lambda: found.append(appcat.show("library")["name"])) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == ["library"] * 16
        assert [event["vm"] for event in appcat.list_events() if event["kind"] == "vm.created"][-1:] == ["library"]
        assert {operation["state"] for operation in appcat.list_operations()} <= {"succeeded", "failed", "cancelled"}
        appcat.delete("library")
