"""The daemon as a user meets it: a real process, started, stopped and killed by the real program."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from appcat import __version__
from tests.cat import Cat, keepers_of, parallel, wait_until
from tests.conftest import HOMES, new_home

NOBODY = 65534


@pytest.fixture
def cat() -> Iterator[Cat]:
    """A home without images or vms; whatever still serves it afterwards ends with it."""
    home = new_home()
    HOMES.append(home)
    found = Cat(home, home / "cache", extra={"HOME": str(home)})
    try:
        yield found
        logs = home / "daemon.log"
        assert not logs.exists() or "Traceback" not in logs.read_text()
    finally:
        found.try_("daemon", "stop")
        shutil.rmtree(home, ignore_errors=True)
        wait_until(lambda: not keepers_of([home]), what="the end of daemons and keepers")


def start(cat: Cat, *options: str) -> dict[str, Any]:
    return dict(json.loads(cat("daemon", "start", "--json", *options)))


def look(cat: Cat) -> dict[str, Any]:
    return dict(json.loads(cat("daemon", "status", "--json")))


def door_of(state: dict[str, Any]) -> Path:
    return Path(state["addresses"][0].removeprefix("unix://"))


def port_of(state: dict[str, Any], index: int = 1) -> int:
    return int(state["addresses"][index].rpartition(":")[2])


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(str(self.path))


def ask(
    connection: http.client.HTTPConnection, path: str, method: str = "GET", body: bytes | None = None, **headers: str
) -> tuple[int, Any]:
    with contextlib.closing(connection):
        connection.request(method, path, body, {key.replace("_", "-"): value for key, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def health(state: dict[str, Any]) -> bool:
    return ask(UnixConnection(door_of(state)), "/v1/health") == (200, {"status": "ok"})


# --- start, stop, status


def test_start_answers_status_tells_and_stop_ends(cat: Cat) -> None:
    assert look(cat) == {"running": False}
    assert cat("daemon", "stop").strip() == "was not running"
    state = start(cat)
    assert health(state) and state == look(cat)
    assert state["running"] and state["version"] == __version__ and state["current"]
    assert state["token_file"] is None and state["fingerprint"] is None
    assert start(cat)["pid"] == state["pid"]  # starting it again changes nothing
    told = cat("daemon", "status")
    assert str(state["pid"]) in told and state["addresses"][0] in told
    assert json.loads(cat("daemon", "stop", "--json")) == {"changed": True}
    assert look(cat) == {"running": False} and not door_of(state).exists()
    assert not (cat.home / "daemon.json").exists()


def test_socket_and_files_are_this_users_alone(cat: Cat) -> None:
    state = start(cat, "--listen", ":0", "--tls")
    path = door_of(state)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == stat.S_IMODE(path.parent.parent.stat().st_mode) == 0o700
    secret = ("daemon.json", "daemon.log", "tokens.json", "default.token", "tls-key.pem", "daemon.lock")
    assert {name: stat.S_IMODE((cat.home / name).stat().st_mode) for name in secret} == dict.fromkeys(secret, 0o600)


def test_many_starts_at_once_make_one_daemon(cat: Cat) -> None:
    done = parallel(cat, [("daemon", "start", "--json")] * 5)
    assert [one.returncode for one in done] == [0] * 5, [one.stderr for one in done]
    assert len({json.loads(one.stdout)["pid"] for one in done}) == 1


def test_second_daemon_says_which_runs(cat: Cat) -> None:
    state = start(cat)
    second = cat.try_("daemon", "run")
    assert second.returncode == 4
    assert f"process {state['pid']}" in second.stderr and state["addresses"][0] in second.stderr
    error = cat.fails("daemon-running", "daemon", "start", "--listen", ":0", "--json")
    assert str(state["pid"]) in error["message"]
    assert look(cat)["pid"] == state["pid"] and health(state)


def test_restart_keeps_the_doors_unless_others_are_given(cat: Cat) -> None:
    first = start(cat, "--listen", ":0")
    second = json.loads(cat("daemon", "restart", "--json"))
    assert second["pid"] != first["pid"] and len(second["addresses"]) == 2
    third = json.loads(cat("daemon", "restart", "--json", "--listen", ":0", "--listen", "[::1]:0"))
    assert len(third["addresses"]) == 3


def test_foreground_ends_with_ctrl_c_and_speaks_on_standard_error(cat: Cat) -> None:
    with cat.popen("daemon", "run") as child:
        wait_until(lambda: look(cat).get("addresses"), what="a daemon in the foreground")
        assert look(cat)["pid"] == child.pid
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=30)
        assert child.returncode == 0 and "unix://" in err and "Traceback" not in err


def test_killed_daemon_leaves_nothing_that_keeps_the_next_from_starting(cat: Cat) -> None:
    state = start(cat)
    os.kill(state["pid"], signal.SIGKILL)
    wait_until(lambda: look(cat) == {"running": False}, what="the end of the daemon")
    assert door_of(state).exists() and (cat.home / "daemon.json").exists()
    again = start(cat)
    assert again["pid"] != state["pid"] and health(again)


def test_socket_that_somebody_listens_on_is_not_stolen(cat: Cat) -> None:
    path = door_of(start(cat))
    cat("daemon", "stop")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        error = cat.fails("socket-in-use", "daemon", "start", "--json")
        assert str(path) in error["message"]
    path.unlink()


def test_daemon_that_cannot_start_says_why(cat: Cat) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        error = cat.fails("port-in-use", "daemon", "start", "--listen", f":{port}", "--json")
        assert str(port) in error["message"]
    assert look(cat) == {"running": False}
    run = cat.try_("daemon", "run", "--tls-cert", "/nowhere", "--tls-key", "/nowhere", "--listen", ":0")
    assert run.returncode == 2 and run.stderr.startswith("Error: /nowhere and /nowhere are no certificate")


def test_what_must_not_be_is_refused_before_anything_is_bound(cat: Cat) -> None:
    for options in (("--listen", "0.0.0.0:0"), ("--listen", "[::]:0")):
        cat.fails("tls-required", "daemon", "start", *options, "--json")
    cat.fails("invalid-input", "daemon", "start", "--tls", "--json")
    cat.fails("invalid-address", "daemon", "start", "--listen", "example.org:80", "--json")
    assert not (cat.home / "daemon.log").exists()


def test_sigterm_closes_idle_connections_and_ends(cat: Cat) -> None:
    state = start(cat)
    with socket.socket(socket.AF_UNIX) as door:
        door.connect(str(door_of(state)))
        door.sendall(b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert door.recv(65536).startswith(b"HTTP/1.1 200")
        os.kill(state["pid"], signal.SIGTERM)
        door.settimeout(30)
        while door.recv(65536):
            pass
    wait_until(lambda: look(cat) == {"running": False}, what="the end of the daemon")


# A daemon with routes that take long: one that never ends, a stream, and an operation.
SLOW = """
import time
from fastapi import APIRouter, Request
from appcat.daemon import process, routes, streams
from appcat.services import daemon

router, feed = APIRouter(), streams.Feed()
daemon.STOP_GRACE = 3.0

@router.get("/never")
def never() -> None:
    time.sleep(3600)

@router.get("/events")
async def events(request: Request) -> object:
    request.app.state.closing.append(feed.close)
    return streams.respond(streams.follow(feed))

@router.post("/operation")
def operate(request: Request) -> dict[str, str]:
    def work() -> None:
        time.sleep(1)
        (request.app.state.ctx.layout.home / "done").touch()

    for _ in range(2):
        request.app.state.operation_threads.submit(work)
    return {}

routes.ROUTERS.append(router)
process.main(["--background"])
"""


def test_sigterm_finishes_what_is_under_way_and_waits_for_nothing_for_ever(cat: Cat) -> None:
    with subprocess.Popen([sys.executable, "-c", SLOW], env=cat.env, stderr=subprocess.PIPE) as child:
        wait_until(lambda: look(cat).get("addresses"), what="a daemon")
        path = door_of(look(cat))
        with socket.socket(socket.AF_UNIX) as never, socket.socket(socket.AF_UNIX) as events:
            for door, route in ((never, b"/never"), (events, b"/events")):
                door.settimeout(30)
                door.connect(str(path))
                door.sendall(b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % route)
            said = events.recv(65536)
            assert ask(UnixConnection(path), "/operation", "POST") == (200, {})
            child.send_signal(signal.SIGTERM)
            while data := events.recv(65536):
                said += data
            assert said.startswith(b"HTTP/1.1 200") and said.endswith(b"0\r\n\r\n")
            assert never.recv(65536) == b""
        assert child.wait(30) == 0
        assert child.stderr and b"Traceback" not in child.stderr.read()
    assert (cat.home / "done").exists() and not path.exists()


def test_daemon_ends_when_its_home_is_gone(cat: Cat) -> None:
    state = start(cat)
    shutil.rmtree(cat.home)
    wait_until(lambda: not psutil.pid_exists(state["pid"]), what="the end of the daemon")
    assert not cat.home.exists() and not door_of(state).exists()


def test_daemon_of_another_version_is_noticed(cat: Cat) -> None:
    start(cat)
    file = cat.home / "daemon.json"
    file.write_text(file.read_text().replace(f'"{__version__}"', '"0.0.1"'))
    assert look(cat)["current"] is False
    assert "appcat daemon restart" in cat.try_("daemon", "status").stderr
    checks = {check["name"]: check for check in json.loads(cat.try_("doctor", "--json").stdout)}
    assert checks["daemon"]["health"] == "warning" and "restart" in checks["daemon"]["advice"]


def test_state_that_cannot_be_read_is_no_obstacle(cat: Cat) -> None:
    state = start(cat)
    (cat.home / "daemon.json").write_text("{")
    assert look(cat)["pid"] == state["pid"]
    assert cat("daemon", "stop").strip() == "stopped"


def test_logs_are_printed_and_followed_to_the_end(cat: Cat) -> None:
    state = start(cat)
    assert f"process {state['pid']}" in cat("daemon", "logs", "--tail", "1")
    with cat.popen("daemon", "logs", "-f") as follower:
        cat("daemon", "stop")
        out, _ = follower.communicate(timeout=30)
    assert follower.returncode == 0 and "ending" in out


# --- the keeper


def keeper_lock_holder(cat: Cat) -> int:
    return int(json.loads((cat.home / "keeper.lock").read_text())["pid"])


def test_keeper_on_demand_gives_way_to_the_daemon(cat: Cat) -> None:
    keeper = subprocess.Popen([sys.executable, "-m", "appcat.keeper"], env=cat.env)
    wait_until(lambda: json.loads(cat("keeper", "status", "--json"))["running"], what="a keeper")
    state = start(cat)
    assert keeper.wait(30) == -signal.SIGTERM
    assert keeper_lock_holder(cat) == state["pid"]
    assert json.loads(cat("keeper", "status", "--json"))["running"]
    cat("daemon", "stop")
    assert not json.loads(cat("keeper", "status", "--json"))["running"]  # no vm runs


def test_keeper_as_a_service_waits_while_the_daemon_keeps(cat: Cat) -> None:
    state = start(cat)
    keeper = subprocess.Popen([sys.executable, "-m", "appcat.keeper", "--service"], env=cat.env)
    try:
        cat("daemon", "stop")
        wait_until(lambda: keeper_lock_holder(cat) == keeper.pid, what="the keeper's turn")
        assert start(cat)["pid"] != state["pid"]
        assert keeper.wait(30) == -signal.SIGTERM
    finally:
        keeper.kill()
        keeper.wait()


# --- doors


def test_tcp_wants_the_token_and_status_names_its_file(cat: Cat) -> None:
    state = start(cat, "--listen", ":0")
    secret = Path(state["token_file"]).read_text().strip()

    def tcp() -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", port_of(state), timeout=30)

    assert ask(tcp(), "/v1/health")[0] == 200
    assert ask(tcp(), "/v1/version")[1]["code"] == "unauthorized"
    assert ask(tcp(), "/v1/version", Authorization="Bearer wrong")[1]["code"] == "unauthorized"
    assert ask(tcp(), "/v1/version", Authorization=f"Bearer {secret}")[1]["version"] == __version__
    more = json.loads(cat("daemon", "token", "add", "more", "--expires", "1h", "--json"))["secret"]
    assert ask(tcp(), "/v1/version", Authorization=f"Bearer {more}")[0] == 200
    cat("daemon", "token", "remove", "more")
    assert ask(tcp(), "/v1/version", Authorization=f"Bearer {more}")[0] == 401
    names = {token["name"]: token["expired"] for token in json.loads(cat("daemon", "token", "list", "--json"))}
    assert names == {"default": False}


def test_expired_token_is_refused_without_a_restart(cat: Cat) -> None:
    state = start(cat, "--listen", ":0")
    secret = json.loads(cat("daemon", "token", "add", "short", "--expires", "1h", "--json"))["secret"]
    file = cat.home / "tokens.json"
    tokens = json.loads(file.read_text())
    for token in tokens["tokens"]:
        token["expires"] = "2001-01-01T00:00:00Z"
    file.write_text(json.dumps(tokens))
    connection = http.client.HTTPConnection("127.0.0.1", port_of(state), timeout=30)
    assert ask(connection, "/v1/version", Authorization=f"Bearer {secret}")[0] == 401


def test_tls_with_its_own_certificate_which_can_be_pinned(cat: Cat) -> None:
    state = start(cat, "--listen", "0.0.0.0:0", "--tls")
    context = ssl.create_default_context(cafile=str(cat.home / "tls-cert.pem"))
    connection = http.client.HTTPSConnection("127.0.0.1", port_of(state), timeout=30, context=context)
    assert ask(connection, "/v1/health")[0] == 200
    pem = ssl.get_server_certificate(("127.0.0.1", port_of(state)))
    digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
    assert state["fingerprint"].replace(":", "").lower() == digest
    assert Path(state["certificate"]).read_text().strip() == pem.strip()
    assert state["fingerprint"] in cat("daemon", "status")
    again = json.loads(cat("daemon", "restart", "--json"))
    assert again["fingerprint"] == state["fingerprint"]


def test_strangers_pages_and_forms_get_nowhere(cat: Cat) -> None:
    state = start(cat, "--listen", ":0")
    secret = Path(state["token_file"]).read_text().strip()
    for host in ("evil.example", f"evil.example:{port_of(state)}"):
        assert ask(UnixConnection(door_of(state)), "/v1/version", Host=host)[1]["code"] == "foreign-host"
        connection = http.client.HTTPConnection("127.0.0.1", port_of(state), timeout=30)
        assert ask(connection, "/v1/version", Host=host, Authorization=f"Bearer {secret}")[1]["code"] == "foreign-host"
    form = {"Content_Type": "application/x-www-form-urlencoded"}
    door = door_of(state)
    assert ask(UnixConnection(door), "/v1/version", "POST", b"a=b", **form)[1]["code"] == "wrong-content-type"
    page = ask(UnixConnection(door), "/v1/version", "POST", b"a=b", Origin="https://evil.example", **form)
    assert page[1]["code"] == "foreign-origin"
    log = cat.home / "audit.log"
    # Written when all is over, a moment after the answer.
    wait_until(lambda: log.exists() and log.read_text().count("\n") == 2, what="two lines in the audit log")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["status"] for line in lines] == [415, 403]
    assert {line["who"] for line in lines} == {f"uid:{os.getuid()}"}
    assert {line["peer"] for line in lines} == {f"pid:{os.getpid()}"}


@pytest.mark.skipif(os.getuid() != 0, reason="becoming another user needs root")
def test_another_user_cannot_come_in_by_the_socket(cat: Cat) -> None:
    path = door_of(start(cat))
    program = (
        "import socket, sys\n"
        "door = socket.socket(socket.AF_UNIX)\n"
        "try: door.connect(sys.argv[1])\n"
        "except PermissionError: sys.exit(77)\n"
        "print(b''.join(iter(lambda: door.recv(65536), b'')).decode())\n"
    )
    become = ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups", "/usr/bin/python3", "-c"]
    assert subprocess.run([*become, program, str(path)], check=False).returncode == 77
    # Even where somebody opened the file to all, the daemon itself asks who it is.
    for place in (path.parent.parent, path.parent):
        place.chmod(0o755)
    try:
        path.chmod(0o666)
        done = subprocess.run([*become, program, str(path)], capture_output=True, text=True, check=False)
        assert done.returncode == 0 and "403 Forbidden" in done.stdout and "foreign-user" in done.stdout, done
    finally:
        for place in (path.parent.parent, path.parent):
            place.chmod(0o700)


def test_two_hundred_connections_are_kept_alive_at_once(cat: Cat) -> None:
    path = door_of(start(cat))
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(contextlib.closing(UnixConnection(path))) for _ in range(200)]
        for _ in range(3):
            for connection in connections:
                connection.request("GET", "/v1/health")
            for connection in connections:
                answer = connection.getresponse()
                assert answer.status == 200 and answer.read() == b'{"status":"ok"}'


# --- dial, service, uninstall


def test_dial_starts_the_daemon_and_joins_to_it(cat: Cat) -> None:
    request = b"GET /v1/version HTTP/1.1\r\nHost: appcat\r\n\r\n"
    for _ in range(2):
        with subprocess.Popen(
            cat.argv("daemon", "dial"), env=cat.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as dial:
            assert dial.stdin and dial.stdout
            dial.stdin.write(request)
            dial.stdin.flush()
            assert dial.stdout.readline() == b"HTTP/1.1 200 OK\r\n"
            dial.stdin.close()  # the client goes
            assert dial.wait(30) == 0
    assert look(cat)["running"]


def test_dial_ends_with_the_daemon(cat: Cat) -> None:
    start(cat)
    with cat.popen("daemon", "dial", stdin=subprocess.PIPE) as dial:
        wait_until(lambda: dial.poll() is None and psutil.Process(dial.pid).num_threads() > 1, what="a dial")
        cat("daemon", "stop")
        assert dial.wait(30) == 0


@pytest.fixture
def systemctl(cat: Cat) -> Path:
    """A service manager that only notes what it is asked."""
    place = Path(tempfile.mkdtemp(prefix="bin-", dir=cat.home))
    program = place / "systemctl"
    program.write_text(f'#!/bin/sh\necho "$@" >> {place}/asked\n')
    program.chmod(0o755)
    cat.extra["PATH"] = f"{place}:{os.environ['PATH']}"
    return place


def test_services_of_daemon_and_keeper_replace_each_other(cat: Cat, systemctl: Path) -> None:
    keeper = Path(json.loads(cat("keeper", "install", "--json"))["installed"])
    daemon = Path(json.loads(cat("daemon", "install", "--listen", ":8080", "--json"))["installed"])
    assert not keeper.exists() and '"--service" "--listen" ":8080"' in daemon.read_text()
    asked = (systemctl / "asked").read_text().splitlines()
    assert asked[-2:] == ["--user enable --now appcat-daemon.service", "--user disable --now appcat-keeper.service"]
    cat("keeper", "install")
    assert keeper.exists() and not daemon.exists()
    cat.fails("tls-required", "daemon", "install", "--listen", "*:8080", "--json")
    assert keeper.exists()


def test_uninstall_ends_the_daemon_and_removes_all_of_it(cat: Cat, systemctl: Path) -> None:
    unit = Path(json.loads(cat("daemon", "install", "--json"))["installed"])
    state = start(cat, "--listen", ":0", "--tls")
    shutil.rmtree(systemctl)
    done = json.loads(cat("uninstall", "--yes", "--json"))
    assert {"daemon", "service", "home", "sockets"} <= {part["kind"] for part in done["removed"]}
    wait_until(lambda: not psutil.pid_exists(state["pid"]), what="the end of the daemon")
    assert not unit.exists() and not door_of(state).exists()
    kept = {Path(path) for path in done["kept"]}
    assert not [path for path in cat.home.rglob("*") if path.is_file() and path not in kept]


def test_bundle_holds_no_secret(cat: Cat) -> None:
    import tarfile

    state = start(cat, "--listen", ":0", "--tls")
    secrets = [
        Path(state["token_file"]).read_text().strip(),
        json.loads((cat.home / "tokens.json").read_text())["tokens"][0]["sha256"],
    ]
    report = cat.home / "report.tar.gz"
    cat("doctor", "--bundle", str(report))
    with tarfile.open(report) as archive:
        files = {member.name: archive.extractfile(member) for member in archive.getmembers()}
        text = b"".join(file.read() for file in files.values() if file).decode()
    assert "appcat-report/daemon.log" in files
    assert "PRIVATE KEY" not in text and not any(secret in text for secret in secrets)
