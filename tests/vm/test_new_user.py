"""A new user: unprivileged, a clean checkout, an empty home, only the README's commands."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.cat import qemus_of, wait_until

pytestmark = pytest.mark.vm

ROOT = Path(__file__).parents[2]
USER = f"appcat-newcomer-{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"


@dataclass(frozen=True)
class Newcomer:
    """An ordinary user with a checkout of their own."""

    home: Path

    @property
    def checkout(self) -> Path:
        return self.home / "appcat"

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """As from a login: a clean environment, no terminal, the system's own Python."""
        env = {"HOME": str(self.home), "USER": USER, "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
        pip = {key: value for key, value in os.environ.items() if key.startswith("PIP_")}
        return subprocess.run(
            ["setpriv", "--reuid", USER, "--regid", USER, "--init-groups", "--no-new-privs", "--", *argv],
            cwd=self.checkout,
            env={**env, **pip},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=1200,
            check=False,
        )

    def appcat(self, *args: str) -> str:
        done = self.run(".venv/bin/appcat", *args)
        assert done.returncode == 0, f"{args}: {done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture
def newcomer(cache: Path) -> Iterator[Newcomer]:
    if os.getuid() != 0:
        pytest.skip("making a user needs root; these tests then run as an ordinary user anyway")
    with contextlib.suppress(KeyError):
        pwd.getpwnam(USER)
        subprocess.run(["userdel", USER], check=True)
    base = Path(tempfile.mkdtemp(prefix="appcat-test-"))
    base.chmod(0o755)
    home = base / USER
    subprocess.run(["useradd", "--home-dir", str(home), "--create-home", "--user-group", USER], check=True)
    someone = Newcomer(home)
    try:
        copy_checkout(someone.checkout)
        # What was downloaded may be used again; the image is to be built, by this user and with Debian's own Python.
        shutil.copytree(cache / "packages", home / ".cache" / "appcat" / "packages")
        subprocess.run(["chown", "-R", f"{USER}:{USER}", str(home)], check=True)
        yield someone
        names = someone.appcat("vm", "list", "--json")
        assert names.strip() == "[]", names
        assert qemus_of(home) == []
    finally:
        for pid in qemus_of(home):
            os.kill(pid, 9)
        end_processes(pwd.getpwnam(USER).pw_uid)
        subprocess.run(["userdel", USER], check=True)
        shutil.rmtree(base)


def end_processes(uid: int) -> None:
    """What the user has left running (a keeper), so that the account can go."""
    theirs = [process for process in psutil.process_iter() if process.uids().real == uid]
    for process in theirs:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    wait_until(lambda: not any(process.is_running() for process in theirs), what="the end of the user's processes")


def copy_checkout(target: Path) -> None:
    """What git has or would have, as it is in the working tree."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


def test_a_newcomers_day(newcomer: Newcomer) -> None:
    """scripts/demo twice, daily use, the doctor, networks, and the tests marked smoke, run by the user themself."""
    first = newcomer.run("scripts/demo")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "Linux demo" in first.stdout
    again = newcomer.run("scripts/demo")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "Linux demo" in again.stdout
    assert "installing" not in again.stderr
    assert newcomer.appcat("vm", "run", "web", "--disk", "32M", "--", "uname", "-n") == "web\n"
    assert newcomer.appcat("vm", "ssh", "web", "--", "df", "-P", "/data").splitlines()[-1].endswith("/data")
    newcomer.appcat("vm", "stop", "web")
    newcomer.appcat("vm", "start", "web")
    newcomer.appcat("vm", "delete", "--force", "web", "demo")
    report = newcomer.appcat("doctor")
    assert "accelerator kvm" in report or "accelerator hvf" in report
    for backend in ("hub", "bridge"):
        with carried_by(backend):
            three_nodes_and_a_stranger(newcomer, backend)
    run_smoke_tests(newcomer)


TUN = Path("/dev/net/tun")


@contextlib.contextmanager
def carried_by(backend: str) -> Iterator[None]:
    """How this host carries networks: as distributions set it up, or without access to taps."""
    before = TUN.stat().st_mode & 0o777
    TUN.chmod(0o666 if backend == "bridge" else 0o600)
    try:
        yield
    finally:
        TUN.chmod(before)


def three_nodes_and_a_stranger(newcomer: Newcomer, backend: str) -> None:
    """A cold vm and two instant clones of it on one network, a fourth on another, whatever is killed in between."""
    newcomer.appcat("network", "create", "lab")
    newcomer.appcat("vm", "run", "n1", "--network", "lab")
    newcomer.appcat("vm", "clone", "n1", "n2", "n3")
    newcomer.appcat("vm", "run", "stranger", "--network", "default")
    shown = json.loads(newcomer.appcat("network", "show", "lab", "--json"))
    assert (shown["backend"], shown["state"]) == (backend, "up"), shown
    addresses = {member["vm"]: member["address"] for member in shown["members"]}
    assert len(set(addresses.values())) == 3

    def reach(source: str, target: str) -> bool:
        """By the card on its network: NIC 0 would ask the host's routes."""
        ping = ("ping", "-I", "eth1", "-c", "1", "-W", "10", target)
        return newcomer.run(".venv/bin/appcat", "vm", "exec", source, "--", *ping).returncode == 0

    nodes = ("n1", "n2", "n3")
    assert [(a, b) for a in nodes for b in nodes if a != b and not reach(a, b)] == []
    assert reach("n2", "n3.lab.appcat")
    assert not reach("stranger", addresses["n1"])
    end_switches(newcomer)
    wait_until(lambda: reach("n1", "n2"), what="traffic after the switch was killed")
    newcomer.appcat("vm", "restart", "n2")
    shown = json.loads(newcomer.appcat("network", "show", "lab", "--json"))
    assert addresses == {member["vm"]: member["address"] for member in shown["members"]}
    wait_until(lambda: reach("n1", "n2") and reach("n2", "n3"), what="traffic after a restart")
    newcomer.appcat("vm", "ssh-config", "--install")
    assert newcomer.run("ssh", "n3", "hostname").stdout == "n3\n"
    newcomer.appcat("vm", "delete", "--force", "stranger", *nodes)
    newcomer.appcat("network", "delete", "lab")
    end_switches(newcomer)


def end_switches(newcomer: Newcomer) -> None:
    """Kill -9."""
    found = switches_of(newcomer.home.stat().st_uid)
    assert found
    for pid in found:
        os.kill(pid, signal.SIGKILL)


def switches_of(uid: int) -> list[int]:
    theirs = (process for process in psutil.process_iter(["cmdline", "uids"]) if process.info["uids"].real == uid)
    return [process.pid for process in theirs if "appcat.switch" in (process.info["cmdline"] or [])]


def run_smoke_tests(newcomer: Newcomer) -> None:
    python = ".venv/bin/python"
    installed = newcomer.run(python, "-m", "pip", "install", "-q", "pytest", "pytest-timeout", "httpx")
    assert installed.returncode == 0, installed.stderr
    cache = f"APPCAT_TEST_CACHE={newcomer.home}/.cache/appcat"
    done = newcomer.run("env", cache, python, "-m", "pytest", "-q", "-m", "smoke", "tests/vm")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
