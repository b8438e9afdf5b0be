"""Every command there is, on a terminal and in a pipe: no traceback, no line too long, no stray sequence."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from appcat.cli.main import root
from tests.cat import PATIENCE, Cat
from tests.conftest import cat_in, new_home
from tests.vm.test_lifecycle import free_port

pytestmark = [pytest.mark.vm, pytest.mark.xdist_group("terminal-and-pipe")]

ROWS, COLUMNS = 24, 80
ESCAPE = "\x1b"
STYLE = re.compile(r"\x1b\[[0-9;]*m")  # colours, and bold, dim and reverse
COLOUR = re.compile(r"\x1b\[(?:[0-9]+;)*(?:[349][0-8]|10[0-7])(?:;[0-9]+)*m")
SEQUENCE = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|[@-Z\\-_])")


@dataclass(frozen=True)
class Case:
    """How one command is tried. ``web`` runs and ``idle`` is stopped before, and must be after ``after``.

    In ``args``, ``{port}`` is a free port, ``{tmp}`` the user's directory, ``{operation}`` one that has succeeded.
    ``keys`` are pairs: wait for this text, then type that. ``listed``: output for people, which has to fit. ``screen``:
    draws with sequences, colours or not. ``unasked``: more arguments where nobody can be asked. ``streams``: passes on
    what a guest says, which is not ours to judge. ``apart``: works on a home and a cache of its own, since nothing is
    left of them.
    """

    args: str = ""
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    status: int = 0
    piped_status: int | None = None  # where that is another
    keys: tuple[tuple[str, str], ...] = ()
    listed: bool = True
    screen: bool = False
    streams: bool = False
    says: str = ""
    piped_says: str | None = None
    apart: bool = False
    unasked: str = ""
    after_files: tuple[str, ...] = ()  # of the user's directory, to be removed


YES = (("[y/N] ", "y\r"),)
STOP_IDLE = ("vm kill idle",)
LEAVE_LAB = ("vm network detach web lab", "network delete lab")
STOP_DAEMON = ("daemon stop",)

CASES: dict[str, Case] = {
    "vm create": Case("new --disk 16M --label a=b", after=("vm delete new",), says="new"),
    "vm run": Case("new --rm -- echo from-within", streams=True, says="from-within"),
    "vm list": Case(says="running"),
    "vm show": Case("web", listed=False, says="running"),
    "vm start": Case("idle", after=STOP_IDLE, says="idle"),
    "vm stop": Case("idle", before=("vm start idle",), says="idle"),
    "vm restart": Case("idle --force", before=("vm start idle",), after=STOP_IDLE, says="idle"),
    "vm pause": Case("web", after=("vm unpause web",), says="web"),
    "vm unpause": Case("web", before=("vm pause web",), says="web"),
    "vm kill": Case("idle", before=("vm start --no-wait idle",), says="idle"),
    "vm wait": Case("web --for ready", says="web"),
    "vm delete": Case("new", before=("vm create new",), keys=YES, says="new"),
    "vm exec": Case("web -- uname", streams=True, says="Linux"),
    "vm exec#terminal": Case(
        "-it web -- sh",
        status=7,
        piped_status=2,
        streams=True,
        keys=(("# ", "echo two-$((1+1))\r"), ("two-2", "exit 7\r")),
        piped_says="needs a terminal",
    ),
    "vm ssh#login": Case("web", status=3, piped_status=0, streams=True, keys=(("# ", "exit 3\r"),)),
    "vm ssh": Case("web -- uname", streams=True, says="Linux"),
    "vm ssh-config": Case("web", listed=False, says="Host web"),
    "vm cp": Case("{tmp}/file web:/tmp/copied"),
    "vm console": Case("web", streams=True, keys=(("leaves it", "\x1d"),), says="left the console", piped_says=""),
    "vm logs": Case("web", streams=True, listed=False),
    "vm stats": Case(says="total"),
    "vm top": Case(piped_status=2, screen=True, keys=(("q to quit", "q"),), piped_says="needs a terminal"),
    "vm edit": Case("idle --restart on-failure", after=("vm edit idle --restart no",), says="idle"),
    "vm rename": Case("idle other", after=("vm rename other idle",), says="other"),
    "vm clone": Case("web copy --verify", after=("vm delete --force copy",), says="verified"),
    "vm flatten": Case("idle", says="stands on nothing already"),
    "vm label": Case("idle a=b c-", after=("vm label idle a-",), says="idle"),
    "vm port list": Case("web", says="22", listed=False),  # advice may follow
    "vm port add": Case("web {port}:80", after=("vm port remove web {port}:80",), says="80"),
    "vm port add#number": Case("web 81", after=("vm port remove web 81",), listed=False, says="127.77."),
    "vm port remove": Case("web {port}:80", before=("vm port add web {port}:80",), says="80"),
    "vm port forward": Case(
        "web {port}:80",
        before=("vm port add web {port}:80",),
        after=("vm port remove web {port}:80",),
        status=4,
        says="is taken",
    ),
    "vm tunnel": Case("web 9", status=9, says="cannot be reached"),  # what comes of others is no text
    "vm disk list": Case("web", says="data"),
    "vm disk add": Case("web more 16M", after=("vm disk remove web more",), says="more"),
    "vm disk remove": Case("web more", before=("vm disk add web more 16M",), keys=YES, says="more"),
    "vm disk grow": Case(
        "idle more 32M", before=("vm disk add idle more 16M",), after=("vm disk remove idle more",), says="more"
    ),
    "vm network list": Case(
        "web", before=("network create lab", "vm network attach web lab"), after=LEAVE_LAB, says="web.lab.appcat"
    ),
    "vm network attach": Case("web lab", before=("network create lab",), after=LEAVE_LAB, says="lab"),
    "vm network detach": Case(
        "web lab",
        before=("network create lab", "vm network attach web lab"),
        after=("network delete lab",),
        says="lab",
    ),
    "network create": Case("new --no-internet --label a=b", after=("network delete new",), says="new"),
    "network list": Case(says="default"),
    "network show": Case(
        "lab", before=("network create lab", "vm network attach web lab"), after=LEAVE_LAB, says="web.lab.appcat"
    ),
    "network delete": Case("lab", before=("network create lab",), says="lab"),
    "template list": Case(says="pico"),
    "template build": Case("pico", listed=False, says="pico"),
    "template show": Case("pico", says="busybox-static"),
    "template create": Case("mine --from idle", after=("template delete mine",), listed=False, says="mine"),
    "template export": Case("pico {tmp}/pico.appcat", after_files=("pico.appcat",), listed=False, says="MiB"),
    "template import": Case(
        "{tmp}/idle.appcat --name mine",
        before=("vm export idle {tmp}/idle.appcat",),
        after=("template delete mine",),
        after_files=("idle.appcat",),
        says="mine",
    ),
    "template delete": Case(
        "mine", before=("template create mine --from idle",), keys=YES, says="template mine", unasked="--yes"
    ),
    "template prune": Case(says="nothing to remove", apart=True),
    "vm export": Case("idle {tmp}/idle.appcat", after_files=("idle.appcat",), listed=False, says="MiB"),
    "template publish": Case("{tmp}/nowhere", status=3, listed=False, says="no directory"),
    # What they do with an engine: tests/vm/test_docker.py.
    "docker create": Case("web", status=4, says="web"),
    "docker list": Case(says="ENGINE"),
    "docker env": Case("web", status=4, says="no Docker host"),
    "docker delete": Case("web", status=4, says="no Docker host"),
    "config list": Case(says="SETTING"),
    "config get": Case("cpus", before=("config set cpus 1",), after=("config unset cpus",), says="1"),
    "config set": Case("cpus 1", after=("config unset cpus",)),
    "config unset": Case("cpus", before=("config set cpus 1",)),
    "hosts": Case(says="web.appcat"),
    "hosts#install": Case(
        "install --file {tmp}/hosts", after=("hosts remove --file {tmp}/hosts",), listed=False, says="names of 2 vms"
    ),
    "inventory": Case(listed=False, says="ansible_host"),
    "events": Case("--filter kind=vm.*,kind=operation.*", says="vm.ready"),
    "operation list": Case(says="succeeded"),
    "operation show": Case("{operation}", says="succeeded"),
    "operation cancel": Case("{operation}", status=4),
    "operation wait": Case("{operation}", says="succeeded"),
    "context list": Case(says="local"),
    "context add": Case("lab unix:///nowhere", after=("context remove lab",), says="lab"),
    "context use": Case("local", says="local"),
    "context show": Case("local", says="local"),
    "context remove": Case("lab", before=("context add lab unix:///nowhere",), says="lab"),
    "keeper status": Case(says="running"),
    "keeper install": Case(after=("keeper uninstall",), listed=False, says="installed"),
    "keeper uninstall": Case(before=("keeper install",), says="uninstalled"),
    "daemon status": Case(before=("daemon start",), after=STOP_DAEMON, says="running"),
    "daemon start": Case(after=STOP_DAEMON, says="running"),
    "daemon stop": Case(before=("daemon start",), says="stopped"),
    "daemon restart": Case(before=("daemon start",), after=STOP_DAEMON, says="running"),
    "daemon logs": Case("--tail 5", before=("daemon start",), after=STOP_DAEMON, streams=True, says="process"),
    "daemon run": Case(before=("daemon start",), after=STOP_DAEMON, listed=False, status=4, says="already"),
    "daemon dial": Case(before=("daemon start",), after=STOP_DAEMON, streams=True, keys=(("", "\x04"),)),
    "daemon install": Case(after=("daemon uninstall",), listed=False, says="installed"),
    "daemon uninstall": Case(before=("daemon install",), says="uninstalled"),
    "daemon token add": Case("new --expires 30d", after=("daemon token remove new",), says="appcat_"),
    "daemon token list": Case(before=("daemon token add new",), after=("daemon token remove new",), says="new"),
    "daemon token remove": Case("new", before=("daemon token add new",), says="new"),
    "doctor": Case(listed=False, says="qemu"),
    "completion": Case("bash", listed=False, says="_appcat_completion"),
    "uninstall": Case(
        before=("config set cpus 1",), listed=False, keys=YES, says="removed", apart=True, unasked="--yes"
    ),
    "version": Case(says="appcat"),
    "vmpower list": Case(says="web"),
    "vmpower on": Case("idle", after=STOP_IDLE, says="idle"),
    "vmpower off": Case("idle", before=("vm start --no-wait idle",), says="idle"),
    "vmpower shutdown": Case("idle", before=("vm start idle",), says="idle"),
    "vmpower suspend": Case("web", status=6),
    "vmpower pause": Case("web", after=("vm unpause web",), says="web"),
    "vmpower unpause": Case("web", before=("vm pause web",), says="web"),
    "guest getip": Case("web", says="127.77."),
}


def leaves(group: Any = root, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every command with its words, as click's own ways of asking find them."""
    for name in group.list_commands(None):
        command = group.get_command(None, name)
        words = (*path, name)
        if hasattr(command, "list_commands"):
            yield from leaves(command, words)
        else:
            yield " ".join(words), command


COMMANDS = dict(leaves())
JSON_CASES = [
    name
    for name in CASES
    if "#" not in name and any("--json" in param.opts for param in getattr(COMMANDS.get(name), "params", ()))
]


def test_no_command_is_missing_here() -> None:
    assert {name.partition("#")[0] for name in CASES} == set(COMMANDS)


# --- a home, and places for what the commands touch


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A user's home directory with a file in it, and a systemctl that does nothing."""
    with tempfile.TemporaryDirectory(prefix="appcat-user-") as directory:
        path = Path(directory)
        (path / "bin").mkdir()
        systemctl = path / "bin" / "systemctl"
        systemctl.write_text("#!/bin/sh\nexit 0\n")
        systemctl.chmod(0o755)
        (path / "file").write_text("content\n")
        yield path


def outfit(place: Path) -> dict[str, str]:
    return {"HOME": str(place), "PATH": f"{place / 'bin'}:{os.environ['PATH']}", "TERM": "xterm-256color"}


@pytest.fixture(scope="module")
def home(cache: Path, place: Path, request: pytest.FixtureRequest) -> Iterator[Cat]:
    """``web`` runs, ``idle`` does not."""
    for cat in cat_in(new_home(), cache, request):
        cat.extra.update(outfit(place))
        cat("vm", "create", "idle", "--memory", "128M")
        cat("vm", "run", "web", "--disk", "16M", "--label", "role=test")
        yield cat


@contextlib.contextmanager
def tried(name: str, home: Cat, place: Path) -> Iterator[tuple[Case, Cat, list[str]]]:
    """The case, the home to try it in, and its words; made ready before, set right afterwards."""
    case = CASES[name]
    places = {"{port}": str(free_port()), "{tmp}": str(place)}
    if "{operation}" in case.args:
        places["{operation}"] = home("operation", "list", "-q", "--state", "succeeded").split()[0]

    def words(text: str) -> list[str]:
        for name, value in places.items():
            text = text.replace(name, value)
        return text.split()

    with tempfile.TemporaryDirectory(prefix="appcat-apart-") as directory:
        apart = Path(directory)
        cat = Cat(apart / "home", apart / "cache", extra=outfit(place)) if case.apart else home
        for line in case.before:
            cat(*words(line))
        try:
            yield case, cat, [*name.partition("#")[0].split(), *words(case.args)]
        finally:
            for line in case.after:
                cat.try_(*words(line))
            for file in case.after_files:
                (place / file).unlink(missing_ok=True)
    assert {vm: seen["status"] for vm, seen in home.list().items()} == {"idle": "stopped", "web": "running"}


# --- a terminal


@dataclass
class Seen:
    """What a terminal was shown, and how the program ended."""

    out: str
    err: str
    status: int

    @property
    def text(self) -> str:
        return SEQUENCE.sub("", self.out + self.err)

    @property
    def lines(self) -> list[str]:
        return [line.rstrip() for line in re.split(r"[\r\n]+", self.text)]


class Terminal:
    """Two pseudo terminals of 80x24: one to type at and to read results from, one for everything else."""

    def __init__(self, cat: Cat, args: list[str], **environ: str) -> None:
        (self._out, out), (self._err, err) = pty.openpty(), pty.openpty()
        for end in (out, err):
            fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self._said: dict[int, bytearray] = {self._out: bytearray(), self._err: bytearray()}
        self._child = subprocess.Popen(
            [sys.executable, "-c", TAKE_TERMINAL, *cat.argv(*args)],
            env={**cat.env, **environ},
            stdin=out,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        os.close(out)
        os.close(err)
        self._deadline = time.monotonic() + PATIENCE

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self._child.poll() is None:
            self._child.kill()
            self._child.wait()
        for end in (self._out, self._err):
            os.close(end)

    def _read(self, ends: list[int]) -> list[int]:
        """Read once from whatever speaks; the ends that are still open."""
        assert time.monotonic() < self._deadline, f"nothing more came after {self._text()!r}"
        readable, _, _ = select.select(ends, [], [], 1.0)
        closed = []
        for end in readable:
            try:
                chunk = os.read(end, 65536)
            except OSError:  # the other side is closed and all is read
                chunk = b""
            self._said[end] += chunk
            if not chunk:
                closed.append(end)
        return [end for end in ends if end not in closed]

    def _text(self) -> str:
        return "".join(said.decode(errors="replace") for said in self._said.values())

    def expect(self, text: str) -> None:
        """Until ``text`` was shown."""
        ends = [self._out, self._err]
        while text not in self._text():
            assert ends, f"{text!r} did not come: {self._text()!r}"
            ends = self._read(ends)

    def type(self, keys: str) -> None:
        os.write(self._out, keys.encode())

    def end(self) -> Seen:
        """All that was shown, once the program has ended."""
        ends = [self._out, self._err]
        while ends:
            ends = self._read(ends)
        status = self._child.wait(PATIENCE)
        out, err = (self._said[end].decode(errors="replace") for end in (self._out, self._err))
        return Seen(out, err, status)


# The terminal becomes the one of the session, so that keys such as Ctrl-C work; then the program itself.
TAKE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
)


def on_a_terminal(cat: Cat, case: Case, args: list[str], **environ: str) -> Seen:
    with Terminal(cat, args, **environ) as terminal:
        for awaited, keys in case.keys:
            terminal.expect(awaited)
            terminal.type(keys)
        return terminal.end()


def check(seen: Seen, case: Case) -> None:
    assert "Traceback" not in seen.text
    assert "has a fault" not in seen.text
    assert seen.status == case.status, seen
    assert case.says in seen.text
    if case.listed and not case.streams:
        assert max(map(len, seen.lines)) <= COLUMNS, seen.lines


@pytest.mark.parametrize("name", CASES)
def test_on_a_terminal(name: str, home: Cat, place: Path) -> None:
    with tried(name, home, place) as (case, cat, args):
        check(on_a_terminal(cat, case, args), case)


@pytest.mark.parametrize("name", CASES)
def test_on_a_terminal_without_colours(name: str, home: Cat, place: Path) -> None:
    with tried(name, home, place) as (case, cat, args):
        seen = on_a_terminal(cat, case, args, NO_COLOR="1")
        check(seen, case)
        if case.screen:
            assert STYLE.search(seen.out)
            assert COLOUR.findall(seen.out) == []
        elif not case.streams:
            assert ESCAPE not in seen.out
        if not case.streams:  # a line that moves takes sequences
            assert STYLE.findall(seen.err) == []


def test_colours_are_known_when_seen() -> None:
    assert all(COLOUR.search(f"\x1b[{code}m") for code in ("31", "1;31", "38;5;7", "48;2;1;2;3", "97", "100", "0;44"))
    assert not any(COLOUR.search(f"\x1b[{code}m") for code in ("", "0", "1", "2", "7", "1;7", "39", "49", "22"))


@pytest.mark.parametrize("name", CASES)
def test_in_a_pipe(name: str, home: Cat, place: Path) -> None:
    with tried(name, home, place) as (case, cat, args):
        done = cat.try_(*args, *case.unasked.split())
        said = done.stdout + done.stderr
        assert "Traceback" not in said
        assert "has a fault" not in said
        assert done.returncode == (case.status if case.piped_status is None else case.piped_status), said
        assert (case.says if case.piped_says is None else case.piped_says) in said
        if not case.streams:
            assert ESCAPE not in said


@pytest.mark.parametrize("name", JSON_CASES)
def test_json(name: str, home: Cat, place: Path) -> None:
    with tried(name, home, place) as (case, cat, args):
        end = args.index("--") if "--" in args else len(args)
        done = cat.try_(*args[:end], "--json", *case.unasked.split(), *args[end:])
        assert done.returncode == case.status, done
        assert ESCAPE not in done.stderr
        if case.status:
            assert done.stdout == ""
            assert set(json.loads(done.stderr)) == {"code", "message", "hint", "details"}
        elif name == "events":
            ids = [json.loads(line)["id"] for line in done.stdout.splitlines()]
            assert ids == sorted(set(ids)) != []
        elif name in ("vm logs", "daemon logs"):
            assert all(set(json.loads(line)) == {"line"} for line in done.stdout.splitlines())
        elif name != "vm run":  # there the output is the command's
            json.loads(done.stdout)


def test_json_of_run_without_a_command(home: Cat) -> None:
    try:
        assert json.loads(home("vm", "run", "new", "--json"))["status"] == "running"
    finally:
        home("vm", "delete", "--force", "new")
