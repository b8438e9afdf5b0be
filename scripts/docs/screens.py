"""Write ``docs/screens``: what people see of appcat on a terminal of 80x24. ``python -m scripts.docs.screens``.

A home of its own with ten running vms, and a tmux of its own that everything is typed in.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCREENS = ROOT / "docs" / "screens"
COLUMNS, LINES = 80, 24
PATIENCE = 300.0
LONG = "a-name-of-sixty-three-characters-is-the-longest-that-a-host-has"
VMS = {
    "web": ("--publish", "28080:80", "--publish", "28443:443", "--disk", "2G", "--label", "role=front"),
    "api": ("--publish", "28081:80", "--label", "role=front"),
    "db-primary": ("--disk", "10G", "--publish", "25432:5432"),
    "db-replica": (
        "--disk",
        "10G",
    ),
    "cache": (),
    "queue": ("--publish", "25672:5672"),
    "search": ("--disk", "4G", "--restart", "on-failure"),
    "build-1": ("--label", "role=ci"),
    "build-2": ("--label", "role=ci"),
    "monitoring": ("--publish", "0.0.0.0:29090:9090/udp", "--restart", "always"),
}


@dataclass(frozen=True)
class Terminal:
    """A shell in a tmux that nobody looks at."""

    name: str
    env: dict[str, str]

    def tmux(self, *args: str) -> str:
        done = subprocess.run(
            ["tmux", "-L", self.name, "-f", "/dev/null", *args],
            env=self.env,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
        return done.stdout

    def open(self) -> None:
        self.tmux("new-session", "-d", "-x", str(COLUMNS), "-y", str(LINES), "PS1='$ ' exec bash --norc --noprofile")
        self.tmux("wait-for", "ready")

    def close(self) -> None:
        self.tmux("kill-server")

    def begin(self, line: str) -> None:
        """Type a line on a clean screen."""
        self.tmux("send-keys", "C-l")
        time.sleep(0.2)
        self.tmux("clear-history")
        self.tmux("send-keys", "-l", line)
        self.tmux("send-keys", "Enter")

    def text(self) -> str:
        """All that was printed since, also what has scrolled away; without the prompt that waits."""
        lines = [line.rstrip() for line in self.tmux("capture-pane", "-p", "-S", "-").splitlines()]
        while lines and lines[-1] in ("", "$"):
            lines.pop()
        return "\n".join(lines) + "\n"

    def run(self, line: str) -> str:
        self.begin(line)
        self.tmux("wait-for", "ready")
        return self.text()

    def watch(self, line: str) -> list[str]:
        """Every different screen until the shell is back."""
        seen: list[str] = []
        self.begin(line)
        with subprocess.Popen(["tmux", "-L", self.name, "wait-for", "ready"], env=self.env) as waiting:
            while waiting.poll() is None:
                if (now := self.text()) not in seen:
                    seen.append(now)
                time.sleep(0.05)
        return [*seen, self.text()]


@contextlib.contextmanager
def terminal(home: Path) -> Iterator[Terminal]:
    """A clean environment; the shell says when it is back at its prompt."""
    keep = {key: os.environ[key] for key in ("HOME", "LANG", "USER") if key in os.environ}
    name = f"appcat-screens-{os.getpid()}"
    env = {
        "LANG": "C.UTF-8",
        **keep,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "APPCAT_HOME": str(home),
        "APPCAT_CACHE": os.environ["APPCAT_TEST_CACHE"],
        "PROMPT_COMMAND": f"tmux -L {name} wait-for -S ready",
        "TMUX_TMPDIR": str(home),
    }
    shell = Terminal(name, env)
    shell.open()
    try:
        yield shell
    finally:
        shell.close()


def write(name: str, text: str) -> None:
    (SCREENS / f"{name}.txt").write_text(text)
    widest = max(len(line) for line in text.splitlines())
    print(f"{name:<12} {len(text.splitlines()):>3} lines, widest {widest}")


def frames(screens: list[str]) -> str:
    """One below the other, without those in which only the spinner moved."""
    kept: dict[str, str] = {}
    for screen in screens:
        kept.setdefault("".join(sign for sign in screen if sign.isascii()), screen)
    return "--------\n".join(kept.values())


def photograph(shell: Terminal) -> None:
    """In an order in which each screen shows something worth looking at."""
    write("list", shell.run("appcat vm list"))
    write("show", shell.run("appcat vm show web"))
    write("stats", shell.run("appcat vm stats"))
    shell.begin("appcat vm top --interval 1")
    time.sleep(4)
    write("top", shell.text())
    shell.tmux("send-keys", "q")
    shell.tmux("wait-for", "ready")
    write("doctor", shell.run("appcat doctor"))
    write("help", shell.run("appcat vm --help"))
    write("error", shell.run("appcat vm start wbe") + "\n" + shell.run("appcat vm create web2 --publish 28080:80x"))
    shell.run("appcat vm stop cache")
    write("start", frames(shell.watch("appcat vm start cache")))
    # What is not as it should be, and the longest name there can be.
    shell.run(f"appcat vm pause queue; appcat vm stop build-2 api; appcat vm rename build-2 {LONG}")
    shell.run("echo '{' > $APPCAT_HOME/vms/api/vm.json")
    write("list-mixed", shell.run("appcat vm list"))
    write("stats-mixed", shell.run("appcat vm stats"))
    write("show-stopped", shell.run(f"appcat vm show {LONG}"))
    write("delete", shell.run("echo y | appcat vm delete search; appcat vm delete --force --yes nosuch search"))


def delete_all(home: Path) -> None:
    """Not through the terminal, which may be waiting for an answer; the home goes only when no vm is left."""
    env = {**os.environ, "APPCAT_HOME": str(home), "APPCAT_CACHE": os.environ["APPCAT_TEST_CACHE"]}
    appcat = [sys.executable, "-m", "appcat", "vm"]
    listed = subprocess.run([*appcat, "list", "-q"], env=env, capture_output=True, text=True, check=True)
    if names := listed.stdout.split():
        subprocess.run([*appcat, "delete", "--force", "--yes", "-q", *names], env=env, check=True)
    shutil.rmtree(home)


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    home = Path(tempfile.mkdtemp(prefix="appcat-"))
    SCREENS.mkdir(exist_ok=True)
    try:
        with terminal(home) as shell:
            for name, options in VMS.items():
                text = shell.run(f"appcat vm run -q {name} --memory 128M {' '.join(options)}")
                if "Error:" in text:
                    sys.exit(text)
            photograph(shell)
    finally:
        delete_all(home)


if __name__ == "__main__":
    main()
