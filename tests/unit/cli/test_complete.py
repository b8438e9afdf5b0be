"""What the shells are told, asked for as their generated scripts ask (typer's ``_completion_classes``)."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from appcat.model.config import KEYS
from appcat.model.network import Network
from appcat.services.context import Context
from appcat.services.operations import operation
from appcat.settings import Settings
from appcat.store.files import make_private_directory
from appcat.store.networks import NetworkStore
from tests.unit.support.processes import REPOSITORY
from tests.unit.support.samples import OTHER_UUID, UUID, sample_vm
from tests.unit.support.vms import add_vm

ENDED = "20261125T221500-7f3a9c"
SHELLS = ("bash", "zsh", "fish")


@pytest.fixture
def home(tmp_path: Path, short: Path) -> Path:
    """A home with three vms, one of them broken."""
    path = tmp_path / "a home"
    ctx = Context(Settings(path, path / "cache", short / "run", path / "templates"))
    make_private_directory(ctx.layout.vms)
    for name, uuid in (("web", UUID), ("web-2", OTHER_UUID), ("db", UUID.replace("5f", "6f"))):
        add_vm(ctx, sample_vm(name, uuid=uuid))
    ctx.layout.vm("db").spec.write_text("damaged")
    NetworkStore(ctx.layout).save(Network("lab", "10.77.1.0/24"))
    with operation(ctx, "start", ["web"], id=ENDED):
        pass
    return path


def run(home: Path, environ: Mapping[str, str], *args: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "APPCAT_HOME": str(home), **environ}
    argv = [sys.executable, "-m", "appcat", *args]
    return subprocess.run(argv, env=env, cwd=REPOSITORY, capture_output=True, text=True, check=False)


def quiet(done: subprocess.CompletedProcess[str]) -> str:
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def bash(home: Path, line: str) -> list[str]:
    words = line.split(" ")
    protocol = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1), "_APPCAT_COMPLETE": "complete_bash"}
    return quiet(run(home, protocol)).split()  # as $(...) does


def zsh(home: Path, line: str) -> list[str]:
    said = quiet(run(home, {"_TYPER_COMPLETE_ARGS": line, "_APPCAT_COMPLETE": "complete_zsh"}))
    if said.strip() == "_files":
        return []
    assert said.startswith("_arguments '*: :((")
    assert said.rstrip().endswith("))'")
    return re.findall(r'^(?:_arguments \'\*: :\(\()?"([^"]*)"', said, re.MULTILINE)


def fish(home: Path, line: str) -> list[str]:
    protocol = {"_TYPER_COMPLETE_ARGS": line, "_APPCAT_COMPLETE": "complete_fish"}
    said = quiet(run(home, {**protocol, "_TYPER_COMPLETE_FISH_ACTION": "get-args"})).strip().splitlines()
    asked = run(home, {**protocol, "_TYPER_COMPLETE_FISH_ACTION": "is-args"})
    assert (asked.returncode, asked.stdout, asked.stderr) == (0 if said else 1, "", "")
    return [entry.split("\t")[0] for entry in said]


Ask = Callable[[Path, str], list[str]]
every_shell = pytest.mark.parametrize("ask", [bash, zsh, fish])


@every_shell
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("appcat vm start ", ["db", "web", "web-2"]),
        ("appcat vm start w", ["web", "web-2"]),
        ("appcat vm start web ", ["db", "web", "web-2"]),
        ("appcat vm show web-", ["web-2"]),
        ("appcat vm delete --force d", ["db"]),
        ("appcat vm exec w", ["web", "web-2"]),
        ("appcat vm ssh-config d", ["db"]),
        ("appcat vm stats w", ["web", "web-2"]),
        ("appcat vm port list d", ["db"]),
        ("appcat vmpower on d", ["db"]),
        ("appcat vm start x", []),
        ("appcat vm create --template ", ["debian", "docker", "pico"]),
        ("appcat vm run -t p", ["pico"]),
        ("appcat template build p", ["pico"]),
        ("appcat config get m", ["memory"]),
        ("appcat config set ", list(KEYS)),
        ("appcat vm list --filter st", ["status="]),
        ("appcat completion ", list(SHELLS)),
        ("appcat operation show 2", [ENDED]),
        ("appcat operation cancel 2", []),
        ("appcat operation ", ["list", "show", "cancel", "wait"]),
        ("appcat events --filter v", ["vm="]),
        ("appcat network show ", ["default", "lab"]),
        ("appcat network delete lab l", ["lab"]),
        ("appcat network create x --twin l", ["lab"]),
        ("appcat vm create --network ", ["default", "lab", "none"]),
        ("appcat vm run --network d", ["default"]),
        ("appcat vm clone web copy --network n", ["none"]),
        ("appcat vm network attach web ", ["default", "lab"]),
        ("appcat vm network detach w", ["web", "web-2"]),
        ("appcat vm network ", ["list", "attach", "detach"]),
        ("appcat vm paus", ["pause"]),
        ("appcat vm port ", ["list", "add", "remove", "forward"]),
        ("appcat vm tun", []),
        ("appcat context use ", ["local"]),
        ("appcat keep", ["keeper"]),
    ],
)
def test_names_that_exist_are_offered(home: Path, ask: Ask, line: str, offered: list[str]) -> None:
    assert ask(home, line) == offered


@every_shell
def test_options_are_offered(home: Path, ask: Ask) -> None:
    assert {"--filter", "--quiet", "--json"} <= set(ask(home, "appcat vm list --"))


@every_shell
@pytest.mark.parametrize("state", ["nothing there", "a file", "not readable"])
def test_a_home_that_is_none_is_no_reason_to_speak(tmp_path: Path, ask: Ask, state: str) -> None:
    path = tmp_path / "none"
    if state == "a file":
        path.write_text("x")
    elif state == "not readable":
        path.mkdir()
        (path / "vms").symlink_to(path / "vms")
    assert ask(path, "appcat vm start ") == []


def test_asking_makes_no_home(tmp_path: Path) -> None:
    assert bash(tmp_path / "fresh", "appcat vm start ") == []
    assert not (tmp_path / "fresh").exists()


# --- the scripts


def script(shell: str, tmp_path: Path) -> str:
    return quiet(run(tmp_path, {}, "completion", shell))


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_asks_with_the_variable_that_is_listened_to(shell: str, tmp_path: Path) -> None:
    text = script(shell, tmp_path)
    assert f"_APPCAT_COMPLETE=complete_{shell}" in text
    assert "appcat" in text.split("_APPCAT_COMPLETE")[0]


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_can_read_the_script(shell: str, tmp_path: Path) -> None:
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed; scripts/test installs it where it may")
    path = tmp_path / "script"
    path.write_text(script(shell, tmp_path))
    done = subprocess.run([shell, "-n", str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("appcat vm start w", ["web", "web-2"]),
        ("appcat vm start ", ["db", "web", "web-2"]),
        ("appcat vm creat", ["create"]),
    ],
)
def test_bash_with_the_script_completes(home: Path, tmp_path: Path, line: str, offered: list[str]) -> None:
    program = tmp_path / "bin" / "appcat"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m appcat "$@"\n')
    program.chmod(0o755)
    words = line.split(" ")
    commands = (
        'eval "$(appcat completion bash)"\n'
        f"COMP_WORDS=({' '.join(shlex.quote(word) for word in words)})\n"
        f"COMP_CWORD={len(words) - 1}\n"
        'complete -p appcat >/dev/null || exit 9\n_appcat_completion appcat\nprintf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    env = {**os.environ, "APPCAT_HOME": str(home), "PATH": f"{program.parent}:{os.environ['PATH']}"}
    argv = ["bash", "--norc", "-c", commands]
    done = subprocess.run(argv, env=env, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert quiet(done).splitlines() == offered


def test_another_shell_is_refused_with_those_that_are_known(tmp_path: Path) -> None:
    done = run(tmp_path, {}, "completion", "tcsh", "--debug")
    assert done.returncode == 2
    assert all(shell in done.stderr for shell in SHELLS)
