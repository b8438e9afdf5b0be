"""A person at a terminal: exec -t, console, logs."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator

import pytest

from tests.cat import Cat, wait_until

pytestmark = [pytest.mark.vm, pytest.mark.xdist_group("terminal")]

PATIENCE = 60.0


class Person:
    """Somebody who runs a command on a terminal of their own."""

    def __init__(self, cat: Cat, *args: str) -> None:
        self.master, self.slave = pty.openpty()
        self.resize(101, 33)
        self.before = termios.tcgetattr(self.slave)
        self.screen = b""
        self.process = subprocess.Popen(
            cat.argv(*args),
            env={**cat.env, "TERM": "xterm"},
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            preexec_fn=self._take_terminal,
        )

    def _take_terminal(self) -> None:
        os.setsid()
        fcntl.ioctl(self.slave, termios.TIOCSCTTY, 0)

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def see(self, text: str) -> None:
        """Wait until ``text`` is on the screen, and forget all up to it."""
        deadline = time.monotonic() + PATIENCE
        while text.encode() not in self.screen:
            assert time.monotonic() < deadline, f"{text!r} is not on the screen: {self.screen!r}"
            self._look()
        self.screen = self.screen.partition(text.encode())[2]

    def _look(self) -> None:
        if select.select([self.master], [], [], 0.1)[0]:
            self.screen += os.read(self.master, 65536)

    def leave(self) -> int:
        """The exit status; the terminal has to be as it was."""
        deadline = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"it goes on: {self.screen!r}"
            self._look()
        self._look()
        assert termios.tcgetattr(self.slave) == self.before
        return self.process.returncode

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@contextlib.contextmanager
def person(cat: Cat, *args: str) -> Iterator[Person]:
    somebody = Person(cat, *args)
    try:
        yield somebody
    finally:
        somebody.close()


def ps(cat: Cat) -> str:
    return cat("vm", "exec", "web", "--", "ps")


def test_shell_on_a_terminal(shared: Cat) -> None:
    with person(shared, "vm", "exec", "-it", "web", "--", "sh") as me:
        me.see("# ")
        me.type("stty size; tty; echo $TERM-$((1+1))\r")
        me.see("33 101")
        me.see("/dev/pts/")
        me.see("xterm-2")
        me.resize(90, 40)
        me.type("until stty size | grep '40 90'; do sleep 0.1; done\r")
        me.see("\r\n40 90")
        # One process, in the foreground before it speaks: a key that comes while a shell forks meets neither.
        me.type("sh -c 'echo begun; exec sleep 1000'\r")
        me.see("\r\nbegun")
        me.type("\x03")
        me.type("echo interrupted-$?\r")
        me.see("interrupted-130")
        me.type("exit 7\r")
        assert me.leave() == 7


@pytest.mark.parametrize(("script", "status"), [("exit 3", 3), ("kill -9 $$", 137), ("kill -2 $$", 130)])
def test_exit_status_on_a_terminal(shared: Cat, script: str, status: int) -> None:
    with person(shared, "vm", "exec", "-t", "web", "--", "sh", "-c", script) as me:
        assert me.leave() == status


def test_keys_reach_a_command_without_a_shell(shared: Cat) -> None:
    with person(shared, "vm", "exec", "-t", "web", "--", "sleep", "4711") as me:
        wait_until(lambda: "sleep 4711" in ps(shared), what="the command")
        me.type("\x03")
        assert me.leave() == 130


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_signals_restore_the_terminal_and_end_the_session(shared: Cat, number: signal.Signals) -> None:
    seconds = str(5000 + number)
    with person(shared, "vm", "exec", "-t", "web", "--", "sleep", seconds) as me:
        wait_until(lambda: f"sleep {seconds}" in ps(shared), what="the command")
        me.process.send_signal(number)
        assert me.leave() == 130
    wait_until(lambda: f"sleep {seconds}" not in ps(shared), what="the end of the session in the guest")


def test_timeout_on_a_terminal(shared: Cat) -> None:
    with person(shared, "vm", "exec", "-t", "--timeout", "2", "web", "--", "sleep", "6001") as me:
        assert me.leave() == 124
    wait_until(lambda: "sleep 6001" not in ps(shared), what="the end of the session in the guest")


def test_terminal_needs_somebody_at_it(shared: Cat) -> None:
    done = shared.try_("vm", "exec", "-it", "web", "--", "sh")
    assert done.returncode == 2
    assert "Hint" in done.stderr


def test_interactive_without_a_terminal_pipes(shared: Cat) -> None:
    assert shared("vm", "exec", "-i", "web", "--", "tr", "a-z", "A-Z", stdin="words") == "WORDS"


def test_console(shared: Cat) -> None:
    with person(shared, "vm", "console", "web") as me:
        me.see("Ctrl-]")
        me.type("\r")
        me.see("# ")
        me.type("echo at-the-$((1+1))-console\r")
        me.see("at-the-2-console")
        second = shared.try_("vm", "console", "web")
        assert second.returncode == 4
        assert f"console (process {me.process.pid})" in second.stderr
        me.type("\x1d")
        me.see("left the console")
        assert me.leave() == 0
    assert shared.status("web") == "running"


def test_console_with_another_key_and_a_signal(shared: Cat) -> None:
    with person(shared, "vm", "console", "--detach-key", "ctrl-a", "web") as me:
        me.see("Ctrl-a")
        me.type("\x1d\x01")
        assert me.leave() == 0
    with person(shared, "vm", "console", "web") as me:
        me.see("Ctrl-]")
        time.sleep(0.5)
        me.process.send_signal(signal.SIGTERM)
        assert me.leave() == 130
    assert shared.try_("vm", "console", "--detach-key", "a", "web").returncode == 2


def test_console_of_a_script(shared: Cat) -> None:
    answer = shared("vm", "console", "web", stdin="\necho piped-$((20+2))\n")
    assert "piped-22" in answer


def test_logs_of_what_the_console_said(shared: Cat) -> None:
    shared("vm", "exec", "web", "--", "sh", "-c", "echo one-$((1+0)) >/dev/console; echo two-$((1+1)) >/dev/console")
    wait_until(lambda: "two-2" in shared("vm", "logs", "web", "--tail", "3"), what="the words in the log")
    found = [json.loads(line)["line"] for line in shared("vm", "logs", "web", "--json").splitlines()]
    assert "two-2" in found[-1] or "two-2" in found[-2]
    assert shared("vm", "logs", "web", "--tail", "0") == ""
    shared("vm", "logs", "web", "--source", "qemu")
    shared("vm", "logs", "web", "--source", "keeper")
    shared.fails("vm-not-found", "vm", "logs", "--json", "nobody")


def test_terminal_is_safe_from_the_log(shared: Cat) -> None:
    script = r"printf '\033]0;title\007\033[2J\033[31mred-%d\033[0m\n' $((40+4)) >/dev/console"
    shared("vm", "exec", "web", "--", "sh", "-c", script)
    wait_until(lambda: "red-44" in shared("vm", "logs", "web"), what="the words in the log")
    assert "\033[2J" in shared("vm", "logs", "web", "--tail", "5")
    with person(shared, "vm", "logs", "web", "--tail", "5") as me:
        me.see("\033[31mred-44\033[0m")
        assert me.leave() == 0
    with person(shared, "vm", "logs", "web") as me:
        assert me.leave() == 0
        assert b"\033[2J" not in me.screen
        assert b"title" not in me.screen


def test_console_and_following_end_with_the_vm(cat: Cat) -> None:
    cat("vm", "run", "short")
    following = cat.popen("vm", "logs", "short", "-f")
    with person(cat, "vm", "console", "short") as me:
        me.see("Ctrl-]")
        cat("vm", "exec", "short", "--", "sh", "-c", "echo last-words >/dev/console; sleep 1")
        me.see("last-words")
        cat("vm", "kill", "short")
        me.see("short has stopped")
        assert me.leave() == 0
    out, _ = following.communicate(timeout=60)
    assert following.returncode == 0
    assert "last-words" in out
    assert cat.try_("vm", "console", "short").returncode == 4
