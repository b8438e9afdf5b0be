from __future__ import annotations

import json
import os
import pty
import subprocess
import sys

import pytest

from appcat.cli import output
from tests.unit.support.processes import REPOSITORY

ESCAPE = "\x1b["


def on_a_terminal(code: str, **environ: str) -> str:
    """What a Python program writes to a terminal."""
    terminal, program = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "NO_COLOR": "", **environ}
    argv = [sys.executable, "-c", code]
    subprocess.run(argv, stdin=program, stdout=program, stderr=program, env=env, cwd=REPOSITORY, check=True)
    os.close(program)
    said = bytearray()
    try:
        while chunk := os.read(terminal, 65536):
            said += chunk
    except OSError:  # the terminal's other side is closed and all is read
        pass
    finally:
        os.close(terminal)
    return said.decode()


def test_json_keeps_other_scripts_readable(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json({"name": "wéb"})
    said = capsys.readouterr().out
    assert "wéb" in said
    assert json.loads(said) == {"name": "wéb"}


def test_table_in_a_pipe_is_plain_and_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(
        ["NAME", "STATUS", ""], [["a-long-name", "running", ""], ["b", "stopped", "x"]], {"running": "red"}
    )
    assert capsys.readouterr().out == (
        "NAME         STATUS\n"
        "a-long-name  running\n"
        "b            stopped  x\n"
    )  # fmt: skip


def test_empty_table_is_its_head(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table(["NAME", "STATUS"], [])
    assert capsys.readouterr().out == "NAME  STATUS\n"


TABLE = """
from appcat.cli.output import print_table
print_table(["NAME"], [["[bold]x[/]"], ["running"]], {"running": "green"})
"""


def test_table_on_a_terminal_has_colours_and_takes_no_cell_for_markup() -> None:
    said = on_a_terminal(TABLE)
    assert ESCAPE in said
    assert "[bold]x[/]" in said


ERROR = (
    "from appcat.cli.output import print_error; from appcat.errors import Busy; print_error(Busy('x'), as_json=False)"
)


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_error_has_colours_on_a_terminal_that_wants_them(no_color: str, coloured: bool) -> None:
    assert (ESCAPE in on_a_terminal(ERROR, NO_COLOR=no_color)) is coloured


def test_progress_in_a_pipe_tells_each_step_once(capsys: pytest.CaptureFixture[str]) -> None:
    with output.progress() as report:
        for step in ("fetching", "fetching", "packing", "fetching"):
            report(step, 1, 3)
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "fetching\npacking\n")


def test_progress_on_a_terminal_counts() -> None:
    code = "from appcat.cli.output import progress\nwith progress() as report: report('fetching', 1, 3)"
    seen = on_a_terminal(code)
    assert "fetching" in seen
    assert "1/3" in seen
