from __future__ import annotations

import io
import os
import pty
import subprocess
import sys

import pytest

from appcat.cli.confirm import Refused, confirm
from tests.unit.support.processes import PATIENCE, REPOSITORY


class Stream(io.StringIO):
    """A stream that is a terminal, or none."""

    def __init__(self, text: str = "", terminal: bool = True) -> None:
        super().__init__(text)
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


def ask(
    monkeypatch: pytest.MonkeyPatch, answer: str, yes: bool = False, stdin: bool = True, stderr: bool = True
) -> tuple[str, int]:
    """What is asked, and how much of the answer was read."""
    keyboard, screen = Stream(answer, stdin), Stream(terminal=stderr)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdin", keyboard)
        patch.setattr(sys, "stderr", screen)
        confirm("Delete web?", yes)
    return screen.getvalue(), keyboard.tell()


@pytest.mark.parametrize("answer", ["y\n", "Y\n", "yes\n", "YES\n", " Yes \n", "y"])
def test_yes_goes_on(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    assert ask(monkeypatch, answer)[0] == "Delete web? [y/N] "


@pytest.mark.parametrize(
    "answer", ["", "\n", "n\n", "no\n", "N\n", "yess\n", "ja\n", "oy\n", "\ny\n", "1\n", "\x1b[A\n"]
)
def test_everything_else_refuses(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    with pytest.raises(Refused) as caught:
        ask(monkeypatch, answer)
    assert caught.value.code == "refused"
    assert "--yes" in caught.value.hint
    assert caught.value.exit_code != 0


def test_yes_in_advance_asks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask(monkeypatch, "n\n", yes=True) == ("", 0)


@pytest.mark.parametrize(("stdin", "stderr"), [(False, True), (True, False), (False, False)])
def test_where_nobody_can_see_or_answer_nothing_is_asked(
    monkeypatch: pytest.MonkeyPatch, stdin: bool, stderr: bool
) -> None:
    assert ask(monkeypatch, "n\n", stdin=stdin, stderr=stderr) == ("", 0)


@pytest.mark.parametrize(("stdin", "stderr"), [(False, True), (True, False), (False, False)])
def test_what_is_too_much_to_take_for_granted_wants_yes_where_nobody_can_be_asked(
    monkeypatch: pytest.MonkeyPatch, stdin: bool, stderr: bool
) -> None:
    monkeypatch.setattr(sys, "stdin", Stream("y\n", stdin))
    monkeypatch.setattr(sys, "stderr", Stream(terminal=stderr))
    with pytest.raises(Refused) as caught:
        confirm("Remove everything?", yes=False, always=True)
    assert "--yes" in caught.value.hint
    confirm("Remove everything?", yes=True, always=True)


def test_no_standard_input_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    monkeypatch.setattr(sys, "stderr", Stream())
    confirm("Delete web?", yes=False)
    assert sys.stderr.getvalue() == ""


@pytest.mark.parametrize(("keys", "status"), [(b"y\n", 0), (b"n\n", 1), (b"\n", 1), (b"\x04", 1)])
def test_the_question_is_on_the_terminal_while_the_result_goes_into_a_pipe(keys: bytes, status: int) -> None:
    code = (
        "from appcat.cli.confirm import Refused, confirm\n"
        "try:\n    confirm('Delete web?', False)\nexcept Refused:\n    raise SystemExit(1)\nprint('done')"
    )
    ours, theirs = pty.openpty()
    try:
        child = subprocess.Popen(
            [sys.executable, "-c", code], stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, cwd=REPOSITORY
        )
        os.close(theirs)
        seen = b""
        while not seen.endswith(b"[y/N] "):
            seen += os.read(ours, 100)
        os.write(ours, keys)
        said, _ = child.communicate(timeout=PATIENCE)
    finally:
        os.close(ours)
    assert child.returncode == status
    assert said == (b"done\n" if status == 0 else b"")
    assert seen == b"Delete web? [y/N] "
