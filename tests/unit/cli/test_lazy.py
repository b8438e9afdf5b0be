from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from appcat.cli import lazy
from appcat.cli.main import root
from tests.unit.support.processes import REPOSITORY

# What takes long to import and what most commands can do without.
HEAVY = (
    "paramiko",
    "cryptography",
    "rich",
    "requests",
    "websockets",
    "tarfile",
    "psutil",
    "elftools",
    "zstandard",
    "asyncio",
    "fastapi",
    "uvicorn",
)


# Not -X importtime: it is blind to importlib.import_module.
PROGRAM = (
    "import atexit, sys\n"
    "from appcat.cli.main import main\n"
    "atexit.register(lambda: print(*sys.modules, sep='\\n', file=sys.stderr))\n"
    "main()\n"
)


def imported_by(home: Path, *args: str) -> set[str]:
    """Names of all modules that ``appcat ARGS`` imports."""
    env = {**os.environ, "APPCAT_HOME": str(home)}
    argv = [sys.executable, "-c", PROGRAM, *args]
    done = subprocess.run(argv, env=env, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split("\n"))


def loaded(modules: set[str], name: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for module in modules)


@pytest.mark.parametrize("module", HEAVY)
def test_version_imports_next_to_nothing(tmp_path: Path, module: str) -> None:
    assert not loaded(imported_by(tmp_path, "version"), module)


def test_version_imports_no_service(tmp_path: Path) -> None:
    modules = imported_by(tmp_path, "version")
    assert "appcat.cli.version" in modules
    assert {name for name in modules if name.startswith(("appcat.services", "appcat.qemu", "appcat.guest"))} == set()
    assert "appcat.cli.vm" not in modules


def test_listing_vms_imports_what_it_uses_alone(tmp_path: Path) -> None:
    modules = imported_by(tmp_path, "vm", "list")
    assert "appcat.cli.vm_look" in modules
    for module in (
        "paramiko",
        "rich.progress",
        "requests",
        "urllib3",
        "websockets",
        "tarfile",
        "cryptography",
        "elftools",
        "zstandard",
        "fastapi",
    ):
        assert not loaded(modules, module), module
    others = {name for name in modules if name.startswith("appcat.cli.vm_")} - {
        "appcat.cli.vm_look",
        "appcat.cli.vm_view",
    }
    assert others == set()
    assert not modules & {"appcat.cli.template", "appcat.cli.doctor", "appcat.cli.keeper", "appcat.cli.vmpower"}


# --- the mapping


def recorded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    made: list[tuple[str, str]] = []

    def make(name: str, source: str) -> Any:
        made.append((name, source))
        return f"command {name}"

    monkeypatch.setattr(lazy, "_make", make)
    return made


def test_a_command_is_made_when_it_is_used_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = recorded(monkeypatch)
    commands = lazy.Commands({"b": "m:b", "a": "m:a"})
    assert (list(commands), len(commands), "a" in set(commands), made) == (["b", "a"], 2, True, [])
    assert commands["a"] == commands["a"] == "command a"
    assert made == [("a", "m:a")]
    with pytest.raises(KeyError):
        commands["c"]


def test_commands_can_be_put_in_and_taken_out(monkeypatch: pytest.MonkeyPatch) -> None:
    made = recorded(monkeypatch)
    commands = lazy.Commands({"a": "m:a"})
    commands["b"] = "mine"
    assert (commands["b"], list(commands), made) == ("mine", ["a", "b"], [])
    del commands["a"]
    assert list(commands) == ["b"]
    with pytest.raises(KeyError):
        commands["a"]


def walk(group: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    found = []
    for name in group.commands:
        command = group.commands[name]
        found.append(((*path, name), command))
        if hasattr(command, "commands"):
            found += walk(command, (*path, name))
    return found


def test_every_command_there_is_can_be_made_and_says_what_it_does() -> None:
    tree = walk(root)
    assert len(tree) > 40
    for path, command in tree:
        assert command.name == path[-1]
        assert command.help, path
        assert command.context_settings["help_option_names"] == ["-h", "--help"], path


def test_every_result_is_to_be_had_as_json() -> None:
    """Except of those that only join streams, or print what is no data."""
    streams = {
        *("vm exec", "vm ssh", "vm console", "vm top", "vm tunnel", "vm port forward", "completion"),
        *("daemon run", "daemon dial"),
    }
    without = {
        " ".join(path)
        for path, command in walk(root)
        if not hasattr(command, "commands") and not any("--json" in param.opts for param in command.params)
    }
    assert without == streams
