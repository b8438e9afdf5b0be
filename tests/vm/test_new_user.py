"""A new user: unprivileged, a clean checkout, an empty home, only the README's commands."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cat import qemus_of

pytestmark = [pytest.mark.vm, pytest.mark.xdist_group("newcomer")]

ROOT = Path(__file__).parents[2]
USER = "appcat-newcomer"


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


@pytest.fixture(scope="module")
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
        subprocess.run(["pkill", "-KILL", "-u", USER], check=False)
        subprocess.run(["userdel", USER], check=True)
        shutil.rmtree(base)


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


def test_demo_then_daily_use(newcomer: Newcomer) -> None:
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


def test_doctor_names_the_accelerator_and_why(newcomer: Newcomer) -> None:
    report = newcomer.appcat("doctor")
    assert "accelerator kvm" in report or "accelerator hvf" in report


def test_smoke_as_this_user(newcomer: Newcomer) -> None:
    """The tests marked smoke, run by the user themself."""
    installed = newcomer.run(".venv/bin/python", "-m", "pip", "install", "-q", "pytest", "pytest-timeout")
    assert installed.returncode == 0, installed.stderr
    done = newcomer.run(
        "env",
        f"APPCAT_TEST_CACHE={newcomer.home}/.cache/appcat",
        ".venv/bin/python",
        "-m",
        "pytest",
        "-q",
        "-m",
        "smoke",
        "tests/vm",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
