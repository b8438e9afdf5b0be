"""docs/guide.md is true: what it tells a newcomer to type is typed here, word by word and in that order."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cat import keepers_of, qemus_of, wait_until
from tests.conftest import HOMES
from tests.vm.test_new_user import Newcomer, newcomer

__all__ = ["newcomer"]

pytestmark = [pytest.mark.vm, pytest.mark.xdist_group("guide")]

GUIDE = Path(__file__).parents[2] / "docs" / "guide.md"
NOT_RUN = re.compile(r"<!-- not run: (.+) -->")
# Every line gets a shell of its own: what would have to live on in the reader's shell may not be in the guide.
STAYS = re.compile(r"\$ (cd|export|alias|set|source|\.) ")


@dataclass(frozen=True)
class Step:
    """One ``$ `` line and what the guide shows below it."""

    number: int
    line: str
    shown: tuple[str, ...]

    @property
    def may_fail(self) -> bool:
        return bool(self.shown) and self.shown[0].startswith("Error:")


def steps(text: str) -> list[Step]:
    """What is to be run, in order."""
    found: list[Step] = []
    block, run, last = False, True, ""
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("```"):
            block = line == "```console"
            run = not NOT_RUN.fullmatch(last)
        elif block and run and line.startswith("$ "):
            found.append(Step(number, line[2:], ()))
        elif block and run:
            step = found.pop()
            found.append(Step(step.number, step.line, (*step.shown, line)))
        last = line
    return found


def pattern(shown: tuple[str, ...]) -> str:
    """``...`` is anything in a line; alone it is any lines. How wide columns are does not matter."""
    parts = []
    for line in shown:
        words = r"[^\n]*".join(re.escape(part) for part in " ".join(line.split()).split("..."))
        parts.append(r"(?:[^\n]*\n)*?" if line == "..." else words + r" ?\n")
    return "".join(parts)


def normal(output: str) -> str:
    return "".join(" ".join(line.split()) + "\n" for line in output.splitlines())


@dataclass(frozen=True)
class Reader:
    """Somebody with a home, a directory to work in, and appcat in their PATH."""

    home: Path
    argv: tuple[str, ...]

    @property
    def appcat_home(self) -> Path:
        return self.home / "cats"

    def type(self, line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.argv, "bash", "-e", "-c", line],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=300,
            check=False,
        )


def reader_argv(home: Path, *path: Path) -> tuple[str, ...]:
    """A clean environment, and a directory of its own to work in."""
    work = home / "work"
    directories = ":".join(map(str, path))
    words = {"HOME": home, "APPCAT_HOME": home / "cats", "PATH": f"{directories}:/usr/local/bin:/usr/bin:/bin"}
    return ("env", "-i", "-C", str(work), "LANG=C.UTF-8", *(f"{key}={value}" for key, value in words.items()))


@pytest.fixture
def reader(cache: Path, request: pytest.FixtureRequest) -> Iterator[Reader]:
    someone = another_user(request) if os.getuid() == 0 else ourselves(request)
    # A place to work, and images that are built already: a copy, since the guide ends with removing them.
    own = someone.appcat_home / "cache"
    shutil.copytree(cache / "images", own / "images", symlinks=True)
    if (cache / "probe.json").exists():
        shutil.copy(cache / "probe.json", own)
    (someone.home / "work").mkdir()
    status = someone.home.stat()
    for directory in (someone.appcat_home, someone.home / "work"):
        subprocess.run(["chown", "-R", f"{status.st_uid}:{status.st_gid}", str(directory)], check=True)
    HOMES.append(someone.appcat_home)
    try:
        yield someone
    finally:
        someone.type("appcat uninstall --yes")


def another_user(request: pytest.FixtureRequest) -> Reader:
    """With an installation of their own."""
    user: Newcomer = request.getfixturevalue("newcomer")
    done = user.run("bash", "-c", "set -eu; source scripts/lib/setup.sh; set_up run")
    assert done.returncode == 0, done.stdout + done.stderr
    become = ("setpriv", "--reuid", user.home.name, "--regid", user.home.name, "--init-groups", "--no-new-privs", "--")
    return Reader(user.home, (*become, *reader_argv(user.home, user.checkout / ".venv" / "bin")))


def ourselves(request: pytest.FixtureRequest) -> Reader:
    """This user, with another home: ssh finds its configuration through the account, so it has to be told."""
    home: Path = request.getfixturevalue("tmp_path")
    (home / "bin").mkdir()
    for name in ("ssh", "scp"):
        program = home / "bin" / name
        program.write_text(f'#!/bin/sh\nexec {shutil.which(name)} -F "$HOME/.ssh/config" "$@"\n')
        program.chmod(0o755)
    return Reader(home, reader_argv(home, home / "bin", Path(sys.executable).parent))


def check_nothing_left(someone: Reader) -> None:
    assert qemus_of(someone.appcat_home) == []
    assert not someone.appcat_home.exists(), sorted(someone.appcat_home.rglob("*"))
    wait_until(lambda: not keepers_of([someone.appcat_home]), what="the end of the keeper")


def test_everything_in_the_guide_works(reader: Reader) -> None:
    for step in steps(GUIDE.read_text()):
        done = reader.type(step.line)
        told = f"docs/guide.md:{step.number}: {step.line}\n-> {done.returncode}\n{done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr, told
        assert (done.returncode != 0) is step.may_fail, told
        output = done.stdout + done.stderr if step.may_fail else done.stdout
        if step.shown:
            expected = "\n".join(step.shown)
            assert re.fullmatch(pattern(step.shown), normal(output)), f"{told}\n--- expected\n{expected}"
    check_nothing_left(reader)


def test_what_is_not_run_says_why() -> None:
    text = GUIDE.read_text()
    assert not STAYS.search(text)
    assert len(steps(text)) > 50
    assert text.count("<!-- not run: ") == len(re.findall(rf"{NOT_RUN.pattern}\n```console\n\$ ", text))


@pytest.mark.parametrize(
    ("shown", "output", "same"),
    [
        (("web",), "web\n", True),
        (("web",), "web2\n", False),
        (("web",), "web\nmore\n", False),
        (("a  b",), "a    b  \n", True),
        (("a ... c", "..."), "a x y c\n1\n2\n", True),
        (("...", "z"), "a\nb\n", False),
    ],
)
def test_what_is_shown_is_compared(shown: tuple[str, ...], output: str, same: bool) -> None:
    assert bool(re.fullmatch(pattern(shown), normal(output))) is same
