"""Driving appcat the way a user does: the installed program, an environment, a home of its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from appcat.settings import memory_directory, runtime_directory

PATIENCE = 240.0


@dataclass
class Cat:
    """One home and the program that works on it. ``prefix`` goes before the program, e.g. to become another user."""

    home: Path
    cache: Path
    prefix: tuple[str, ...] = ()
    program: tuple[str, ...] = (sys.executable, "-m", "appcat")
    extra: dict[str, str] = field(default_factory=dict)

    @property
    def env(self) -> dict[str, str]:
        keep = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "TERM") if key in os.environ}
        return {**keep, "APPCAT_HOME": str(self.home), "APPCAT_CACHE": str(self.cache), **self.extra}

    def argv(self, *args: str) -> list[str]:
        return [*self.prefix, *self.program, *args]

    def popen(self, *args: str, **options: Any) -> subprocess.Popen[str]:
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL}
        return subprocess.Popen(self.argv(*args), env=self.env, text=True, **{**streams, **options})

    def try_(self, *args: str, stdin: str = "", timeout: float = PATIENCE) -> subprocess.CompletedProcess[str]:
        """Run, whatever comes out."""
        return subprocess.run(
            self.argv(*args), env=self.env, input=stdin, text=True, capture_output=True, timeout=timeout, check=False
        )

    def __call__(self, *args: str, stdin: str = "", timeout: float = PATIENCE) -> str:
        """Run and return standard output; the test fails when the program does."""
        done = self.try_(*args, stdin=stdin, timeout=timeout)
        assert done.returncode == 0, f"appcat {' '.join(args)} -> {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def fails(self, code: str, *args: str) -> dict[str, str]:
        """Run what must be refused with the error ``code``; never with a traceback."""
        done = self.try_(*args)
        assert done.returncode != 0, f"appcat {' '.join(args)} should have failed\n{done.stdout}"
        assert "Traceback" not in done.stderr, done.stderr
        found = [line for line in done.stderr.splitlines() if line.startswith("{")]
        assert found, f"no JSON error in: {done.stderr}"
        error: dict[str, str] = json.loads(found[-1])
        assert error["code"] == code, error
        assert error["message"] and "\n" not in error["message"], error
        return error

    def list(self) -> dict[str, dict[str, Any]]:
        """What ``vm list`` says, by name."""
        return {vm["name"]: vm for vm in json.loads(self("vm", "list", "--json"))}

    def show(self, name: str) -> dict[str, Any]:
        return dict(json.loads(self("vm", "show", name, "--json")))

    def status(self, name: str) -> str:
        return str(self.show(name)["status"])

    def wait_status(self, name: str, *wanted: str, timeout: float = 60.0) -> str:
        """Until the vm has one of the wanted states."""
        deadline = time.monotonic() + timeout
        while (found := self.status(name)) not in wanted:
            assert time.monotonic() < deadline, f"{name} is {found}, not {wanted}: {self.show(name)}"
            time.sleep(0.1)
        return found

    def create(self, name: str, *options: str) -> dict[str, Any]:
        return dict(json.loads(self("vm", "create", name, "--json", *options)))

    def qemus(self) -> list[int]:
        """Process ids of every QEMU that works on this home."""
        return qemus_of(self.home)

    def exec(self, name: str, script: str) -> str:
        """What a shell in the guest says to ``script``."""
        return self("vm", "exec", name, "--", "sh", "-c", script)

    def run_record(self, name: str) -> dict[str, Any]:
        """``run.json``: of a vm that runs, or was thought to."""
        return dict(json.loads((self.home / "vms" / name / "run.json").read_text()))

    def disk(self, name: str, disk: str = "data") -> Path:
        """The file that ``vm.json`` says a disk is written to."""
        spec = json.loads((self.home / "vms" / name / "vm.json").read_text())
        (file,) = (found["file"] for found in spec["disks"] if found["name"] == disk)
        return self.home / "vms" / name / "disks" / str(file)

    def bases(self) -> dict[str, dict[str, Any]]:
        """What ``base.json`` says of each base that is not a warm template; nothing of one that is being made."""
        found = {path.name: _read(path / "base.json") for path in _entries(self.home / "bases")}
        return {identifier: base for identifier, base in found.items() if not base.get("warm")}

    def warm(self) -> dict[str, dict[str, Any]]:
        """The warm templates."""
        found = {path.name: _read(path / "base.json") for path in _entries(self.home / "bases")}
        return {identifier: base for identifier, base in found.items() if base.get("warm")}

    def layers(self) -> list[Path]:
        """Frozen disks."""
        return _entries(self.home / "layers" / "frozen" / "disks")

    def disks(self) -> list[Path]:
        """Every disk of every vm, and every layer."""
        return [*sorted(self.home.glob("vms/*/disks/*")), *self.layers()]

    def frozen_memory(self) -> list[Path]:
        """Memory of bases in memory, that of warm templates left out; whoever the home belongs to."""
        warm = [base["memory"] for base in self.warm().values()]
        return [path for path in self._memory_files() if str(path) not in warm]

    def sockets(self) -> list[Path]:
        """Directories of sockets, but for the switch's."""
        mine = runtime_directory(self.home.resolve())
        found = [path for root in mine.parent.parent.glob(f"appcat-*/{mine.name}") for path in _entries(root)]
        return [path for path in found if not path.name.startswith("switch")]

    def left_of_clones(self) -> list[str]:
        """All that must be gone when no clone and no vm lives any more."""
        return [str(left) for left in (*self.bases(), *self.layers(), *self.frozen_memory(), *self.sockets())]

    def clean_up(self) -> None:
        """Delete every vm; what then still runs, or takes memory, is a fault and is ended."""
        if names := vm_directories(self.home):
            self.try_("vm", "delete", "--force", *names)
        left = self.qemus()
        for pid in left:
            os.kill(pid, 9)
        try:
            assert not left, f"QEMU left behind: {left}"
            # The keeper sweeps what the end of the last clone left a moment too late for the command that ended it.
            wait_until(lambda: not (self.bases() or self.frozen_memory()), what=f"end of {self.left_of_clones()}")
        finally:
            for path in self._memory_files():
                path.unlink(missing_ok=True)

    def _memory_files(self) -> list[Path]:
        mine = memory_directory(self.home.resolve())
        if mine is None:
            return []
        return [path for root in mine.parent.parent.glob(f"appcat-*/{mine.name}") for path in _entries(root)]

    def logs(self) -> str:
        """The end of every log in the home, for a failed test."""
        texts = []
        for path in [*sorted(self.home.glob("vms/*/*.log")), self.home / "keeper.log", self.home / "daemon.log"]:
            if path.exists():
                texts.append(f"--- {path}\n{tail(path)}")
        return "\n".join(texts)


def _entries(directory: Path) -> list[Path]:
    return sorted(directory.iterdir()) if directory.is_dir() else []


def _read(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError):
        return {}


def vm_directories(home: Path) -> list[str]:
    vms = home / "vms"
    return sorted(path.name for path in vms.iterdir() if not path.name.startswith(".")) if vms.is_dir() else []


def tail(path: Path, lines: int = 30) -> str:
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


def command_lines() -> dict[int, list[str]]:
    """Every process's arguments."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found[int(entry.name)] = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
    return found


def qemus_of(home: Path) -> list[int]:
    needle = f"{home}/".replace(",", ",,")
    return [
        pid
        for pid, args in command_lines().items()
        if "qemu-system" in args[0] and any(needle in arg for arg in args[1:])
    ]


def keepers_of(homes: Sequence[Path]) -> list[int]:
    """Keepers and daemons of these homes: known by their environment."""
    wanted = [f"APPCAT_HOME={home}\0".encode() for home in homes]
    found = []
    for pid, args in command_lines().items():
        if "appcat.keeper" in args or "appcat.daemon" in args:
            with contextlib.suppress(OSError):
                environ = Path(f"/proc/{pid}/environ").read_bytes()
                if any(text in environ for text in wanted):
                    found.append(pid)
    return found


def switches_of(homes: Sequence[Path]) -> list[int]:
    """Switches of these homes, which are among their arguments."""
    wanted = {str(home.resolve()) for home in homes}
    return [pid for pid, args in command_lines().items() if "appcat.switch" in args and wanted & set(args)]


def wait_until(condition: Any, timeout: float = 30.0, what: str = "condition") -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true within {timeout} s"
        time.sleep(0.1)


def parallel(cat: Cat, calls: Sequence[Sequence[str]]) -> list[subprocess.CompletedProcess[str]]:
    """Run several commands at the same time."""
    running = [cat.popen(*call) for call in calls]
    done = []
    for process, call in zip(running, calls, strict=True):
        out, err = process.communicate(timeout=PATIENCE)
        done.append(subprocess.CompletedProcess(list(call), process.returncode, out, err))
    return done
