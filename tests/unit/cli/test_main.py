from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from appcat import __version__
from appcat.cli import anywhere
from appcat.cli import main as main_module
from appcat.errors import WrongState
from tests.unit.support.processes import PATIENCE, REPOSITORY

ESCAPE = "\x1b"


def run(home: Path, *args: str, **environ: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "APPCAT_HOME": str(home), **environ}
    env.pop("APPCAT_LOG", None)
    argv = [sys.executable, "-m", "appcat", *args]
    return subprocess.run(argv, env=env, cwd=REPOSITORY, capture_output=True, text=True, check=False)


def on_a_terminal(home: Path, *args: str, **environ: str) -> tuple[int, str]:
    """Exit status, and what came to the terminal."""
    env = {**os.environ, "APPCAT_HOME": str(home), "TERM": "xterm-256color", "COLUMNS": "80", **environ}
    ours, theirs = pty.openpty()
    argv = [sys.executable, "-m", "appcat", *args]
    child = subprocess.Popen(argv, env=env, cwd=REPOSITORY, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    seen = bytearray()
    try:
        while chunk := os.read(ours, 65536):
            seen += chunk
    except OSError:  # the other side is closed and all is read
        pass
    finally:
        os.close(ours)
    return child.wait(PATIENCE), seen.decode()


# --- usage errors

WRONG = [
    ("nosuch",),
    ("vm", "nosuch"),
    ("vm", "list", "--nonsense"),
    ("vm", "list", "extra"),
    ("vm", "create"),
    ("vm", "create", "web", "--cpus", "many"),
    ("vm", "create", "web", "--cpus"),
    ("vm", "create", "web", "--restart", "never"),
    ("vm", "start"),
    ("vm", "stop", "web", "--timeout", "0"),
    ("vm", "stop", "web", "--timeout", "nan"),
    ("vm", "logs", "web", "--source", "nobody"),
    ("vm", "logs", "web", "--tail", "-1"),
    ("vm", "port", "add", "web"),
    ("vm", "network", "attach", "web"),
    ("network", "create"),
    ("network", "delete"),
    ("config", "set", "cpus"),
    ("vmpower", "nosuch", "web"),
]


@pytest.mark.parametrize("args", WRONG, ids=" ".join)
def test_a_usage_error_is_json_where_json_is_asked_for(tmp_path: Path, args: tuple[str, ...]) -> None:
    done = run(tmp_path, *args, "--json")
    assert (done.returncode, done.stdout) == (2, "")
    error = json.loads(done.stderr)
    assert set(error) == {"code", "message", "hint", "details"}
    assert error["code"] == "usage"
    assert error["message"]
    assert "\n" not in error["message"]
    assert error["hint"]


@pytest.mark.parametrize("args", WRONG, ids=" ".join)
def test_a_usage_error_for_people_says_where_to_look(tmp_path: Path, args: tuple[str, ...]) -> None:
    done = run(tmp_path, *args)
    assert (done.returncode, done.stdout) == (2, "")
    first, second, *rest = done.stderr.splitlines()
    assert first.startswith("Error: ")
    assert second.startswith(("Hint:  see 'appcat", "Hint:  did you mean"))
    assert rest == []


@pytest.mark.parametrize(
    ("wrong", "meant"), [(("vm", "strat"), "start"), (("vm", "list", "--filtre", "x"), "--filter")]
)
def test_a_near_miss_is_suggested(tmp_path: Path, wrong: tuple[str, ...], meant: str) -> None:
    assert meant in json.loads(run(tmp_path, *wrong, "--json").stderr)["hint"] + run(tmp_path, *wrong).stderr


def test_json_of_the_guests_command_is_not_ours(tmp_path: Path) -> None:
    done = run(tmp_path, "vm", "exec", "web", "--", "ls", "--json")
    assert done.stderr.startswith("Error: there is no vm 'web'")
    assert done.returncode == 3


def test_errors_of_commands_are_json_too(tmp_path: Path) -> None:
    done = run(tmp_path, "vm", "show", "web", "--json")
    assert (done.returncode, done.stdout, json.loads(done.stderr)["code"]) == (3, "", "vm-not-found")


@pytest.mark.parametrize("group", [(), ("vm",), ("vm", "disk"), ("config",), ("template",), ("keeper",), ("vmpower",)])
def test_a_group_alone_shows_its_help_once_and_fails(tmp_path: Path, group: tuple[str, ...]) -> None:
    done = run(tmp_path, *group)
    assert (done.returncode, done.stderr) == (2, "")
    assert done.stdout.count("Usage:") == 1


def every_command(group: Any = main_module.root, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = [path]
    for name in getattr(group, "commands", ()):
        found += every_command(group.commands[name], (*path, name))
    return found


@pytest.mark.parametrize("command", every_command(), ids=lambda path: " ".join(path) or "appcat")
def test_every_command_has_help_that_fits_the_terminal(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for option in ("-h", "--help"):
        assert main_module._run([*command, option]) == 0
        said = capsys.readouterr()
        assert said.err == ""
        assert said.out.startswith(f"Usage: appcat{''.join(f' {word}' for word in command)} ")
        assert said.out.count("Usage:") == 1
        assert ESCAPE not in said.out
        assert max(map(len, said.out.splitlines())) <= 80


def test_brackets_in_help_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    main_module._run(["vm", "create", "--help"])
    assert "[ADDRESS:]HOST:GUEST[/udp]" in capsys.readouterr().out


def test_version(tmp_path: Path) -> None:
    assert run(tmp_path, "--version").stdout == run(tmp_path, "version").stdout == f"appcat {__version__}\n"
    assert json.loads(run(tmp_path, "version", "--json").stdout) == {"version": __version__}


# --- --debug


@pytest.mark.parametrize(
    ("given", "left", "debug"),
    [
        ([], [], False),
        (["--debug"], [], True),
        (["--debug", "vm", "list"], ["vm", "list"], True),
        (["vm", "--debug", "list"], ["vm", "list"], True),
        (["vm", "list", "--debug"], ["vm", "list"], True),
        (["vm", "exec", "web", "--debug", "--", "ls"], ["vm", "exec", "web", "--", "ls"], True),
        (["vm", "exec", "web", "--", "ls", "--debug"], ["vm", "exec", "web", "--", "ls", "--debug"], False),
        (["--debug", "vm", "exec", "w", "--", "--debug", "--"], ["vm", "exec", "w", "--", "--debug", "--"], True),
        (["vm", "list", "--debugger"], ["vm", "list", "--debugger"], False),
    ],
)
def test_debug_is_taken_anywhere_before_the_guests_command(given: list[str], left: list[str], debug: bool) -> None:
    environ: dict[str, str] = {}
    assert anywhere.take(given, environ) == left
    assert environ == ({"APPCAT_LOG": "debug"} if debug else {})


TOOL = "#!/bin/sh\nprintf 'QEMU emulator version 7.2.22\\n'\n"


@pytest.mark.parametrize("place", [0, 1, 2])
def test_debug_shows_the_programs_that_are_run(tmp_path: Path, place: int) -> None:
    """A command that runs a program which is not there to be found but in our own directory."""
    for name in ("qemu-img", "qemu-system-x86_64", "qemu-system-aarch64"):
        tool = tmp_path / "bin" / name
        tool.parent.mkdir(exist_ok=True)
        tool.write_text(TOOL)
        tool.chmod(0o755)
    args = ["doctor", "--json"]
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    silent = run(tmp_path / "home", *args, PATH=path)
    args.insert(place, "--debug")
    loud = run(tmp_path / "home", *args, PATH=path)
    run_line = re.compile(r" appcat\.command run \S*/bin/qemu-system-\S+ --version")
    assert run_line.search(loud.stderr)
    assert not run_line.search(silent.stderr)
    assert json.loads(loud.stdout)
    assert loud.returncode == silent.returncode


# --- colours


@pytest.mark.parametrize("args", [("config", "list"), ("vm", "show", "nosuch"), ("vm", "list"), ("vm", "nosuch")])
def test_no_color_leaves_no_sequence_on_the_terminal(tmp_path: Path, args: tuple[str, ...]) -> None:
    status, seen = on_a_terminal(tmp_path, *args, NO_COLOR="1")
    assert seen.strip()
    assert ESCAPE not in seen
    assert status == run(tmp_path, *args).returncode


@pytest.mark.parametrize("args", [("config", "list"), ("vm", "show", "nosuch")])
def test_a_terminal_has_colours_else(tmp_path: Path, args: tuple[str, ...]) -> None:
    assert ESCAPE in on_a_terminal(tmp_path, *args, NO_COLOR="")[1]


@pytest.mark.parametrize("args", [("config", "list"), ("vm", "show", "nosuch"), ("vm", "nosuch"), ("vm", "--help")])
def test_a_pipe_never_has_sequences(tmp_path: Path, args: tuple[str, ...]) -> None:
    done = run(tmp_path, *args, TERM="xterm-256color", COLUMNS="80")
    assert done.stdout + done.stderr
    assert ESCAPE not in done.stdout + done.stderr


# --- the end, whatever it is


def end_of(monkeypatch: pytest.MonkeyPatch, error: BaseException | int, *args: str) -> int:
    """The exit status when running the command comes to this."""

    def comes_to(_arguments: list[str]) -> int:
        if isinstance(error, BaseException):
            raise error
        return error

    monkeypatch.setattr(main_module, "_run", comes_to)
    monkeypatch.setattr(main_module, "_prepare_process", lambda: None)
    monkeypatch.setattr(sys, "argv", ["appcat", *args])
    before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(SystemExit) as caught:
            main_module.main()
    finally:
        signal.signal(signal.SIGINT, before)  # ignored at the end of a process that goes on here
    assert isinstance(caught.value.code, int)
    return caught.value.code


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (WrongState("no"), 4, "wrong-state"),
        (PermissionError(13, "Permission denied", "/x"), 6, "not-permitted"),
        (OSError(28, "No space left on device"), 6, "no-space"),
        (ZeroDivisionError("division by zero"), 1, "internal"),
        (RecursionError(), 1, "internal"),
    ],
)
def test_every_error_leaves_as_one_of_ours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, status: int, code: str
) -> None:
    assert end_of(monkeypatch, error, "vm", "list", "--json") == status
    said = capsys.readouterr()
    assert said.out == ""
    assert json.loads(said.err)["code"] == code


def test_a_fault_of_ours_asks_for_a_report_and_shows_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert end_of(monkeypatch, KeyError("x"), "vm", "list") == 1
    said = capsys.readouterr().err
    assert "appcat has a fault: KeyError" in said
    assert "doctor --bundle" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("status", [0, 7, 124, 130])
def test_the_status_of_a_command_is_passed_on(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    assert end_of(monkeypatch, status) == status


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_fault(tmp_path: Path, closed: str) -> None:
    env = {**os.environ, "APPCAT_HOME": str(tmp_path)}
    argv = ["sh", "-c", f'exec "$0" -m appcat config list {closed}', sys.executable]
    done = subprocess.run(argv, env=env, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_full_disk_under_the_output_is_told(tmp_path: Path) -> None:
    env = {**os.environ, "APPCAT_HOME": str(tmp_path)}
    argv = ["sh", "-c", 'exec "$0" -m appcat config list --json >/dev/full', sys.executable]
    done = subprocess.run(argv, env=env, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (done.returncode, json.loads(done.stderr)["code"]) == (6, "no-space")


def test_a_reader_that_went_away_is_no_fault(tmp_path: Path) -> None:
    env = {**os.environ, "APPCAT_HOME": str(tmp_path)}
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as stream:
        argv = [sys.executable, "-m", "appcat", "config", "list"]
        done = subprocess.run(
            argv, env=env, cwd=REPOSITORY, stdout=stream, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.stderr == ""
