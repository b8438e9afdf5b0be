"""``scripts/demo`` and the set-up below it: what is missing is named or installed, what is there is left alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cat import Cat
from tests.conftest import cat_in, new_home

pytestmark = pytest.mark.xdist_group("set-up")

CHECKOUT = Path(__file__).resolve().parents[2]
NOBODY = 65534
QEMU = {"x86_64": "qemu-system-x86", "aarch64": "qemu-system-arm"}[os.uname().machine]
LACKING = ("qemu-", "ssh", "sudo", "apt")
ALL = [QEMU, "qemu-utils", "openssh-client"]
# Stand-ins: apt-get notes how it was called, and what it installs appears; sudo does what it is told.
APT = """#!/bin/sh
echo "$*" >> "$0.calls"
case "$*" in *install*) cd "${0%/*}" && ln -s /bin/true ssh && ln -s /bin/true qemu-img && ln -s /bin/true QEMU ;; esac
"""
SUDO = """#!/bin/sh
[ "$1" = -n ] && shift
exec "$@"
"""


def write_program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def public_directory() -> Path:
    """Readable by everybody, as pytest's own are not."""
    directory = Path(tempfile.mkdtemp(prefix="appcat-test-"))
    directory.chmod(0o755)
    return directory


@pytest.fixture(scope="module")
def lacking() -> Iterator[Path]:
    """This system's programs without those that appcat needs."""
    directory = public_directory()
    for place in {Path("/usr/bin").resolve(), Path("/bin").resolve()}:
        for entry in place.iterdir():
            link = directory / entry.name
            if not entry.name.startswith(LACKING) and not link.is_symlink():
                link.symlink_to(entry)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def programs() -> Iterator[Path]:
    """Where stand-ins are put."""
    directory = public_directory()
    yield directory
    shutil.rmtree(directory)


class SetUp:
    """What ``scripts/demo`` does first, on a machine that has nothing but ``programs`` and what it came with."""

    def __init__(self, programs: Path, lacking: Path) -> None:
        self.path = f"{programs}:{lacking}"

    def __call__(self, checkout: Path = CHECKOUT, user: int | None = None) -> subprocess.CompletedProcess[str]:
        line = f"set -euo pipefail; source '{checkout}/scripts/lib/setup.sh'; set_up run"
        return subprocess.run(
            ["/bin/bash", "-c", line, "demo"],
            env={**os.environ, "PATH": self.path},
            user=user,
            cwd="/",
            stdin=subprocess.DEVNULL,
            text=True,
            capture_output=True,
            timeout=600,
            check=False,
        )


@pytest.fixture
def set_up(programs: Path, lacking: Path) -> SetUp:
    return SetUp(programs, lacking)


def calls(programs: Path) -> list[str]:
    log = programs / "apt-get.calls"
    return log.read_text().splitlines() if log.exists() else []


def test_without_apt_the_packages_are_named(set_up: SetUp) -> None:
    done = set_up()
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith(" ".join(ALL))
    assert len(done.stderr.splitlines()) == 1


def test_without_root_the_administrators_line_is_printed(set_up: SetUp, programs: Path) -> None:
    write_program(programs / "apt-get", APT)
    checkout = programs / "checkout"
    shutil.copytree(CHECKOUT / "scripts", checkout / "scripts")
    done = set_up(checkout, NOBODY if os.geteuid() == 0 else None)
    assert done.returncode == 1
    line = done.stderr.splitlines()[-1]
    assert line.startswith("apt-get update && apt-get install --yes --no-install-recommends ")
    assert line.endswith(" ".join(ALL))
    assert calls(programs) == []


def test_what_is_missing_is_installed(set_up: SetUp, programs: Path) -> None:
    write_program(programs / "apt-get", APT.replace("QEMU", f"qemu-system-{os.uname().machine}"))
    write_program(programs / "sudo", SUDO)
    done = set_up()
    assert done.returncode == 0, done.stderr
    update, install = calls(programs)
    assert update == "update"
    assert install.endswith(f"install --yes --no-install-recommends {' '.join(ALL)}")
    assert set_up().returncode == 0
    assert len(calls(programs)) == 2


def test_what_apt_could_not_install_is_told(set_up: SetUp, programs: Path) -> None:
    write_program(programs / "apt-get", "#!/bin/sh\necho E: no such package\nexit 100\n")
    write_program(programs / "sudo", SUDO)
    done = set_up()
    assert done.returncode == 1
    assert "E: no such package" in done.stderr
    assert done.stderr.rstrip().endswith("failed: see above")


@pytest.mark.vm
def test_demo_twice(cache: Path, request: pytest.FixtureRequest) -> None:
    for cat in cat_in(new_home(), cache, request):
        first, _ = demo(cat)
        assert "vm run demo" in first
        again, seconds = demo(cat)
        assert "vm exec demo" in again
        assert seconds < 30
        assert list(cat.list()) == ["demo"]
        cat("vm", "stop", "demo")
        demo(cat)
        assert cat.status("demo") == "running"


def demo(cat: Cat) -> tuple[str, float]:
    started = time.monotonic()
    done = subprocess.run(
        [CHECKOUT / "scripts/demo"],
        env={**os.environ, **cat.env},
        stdin=subprocess.DEVNULL,
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Linux demo" in done.stdout
    assert "vm ssh demo" in done.stdout
    return done.stdout, time.monotonic() - started
