"""What is said of the commands is what the program does: made from it, committed, compared."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from scripts.docs import reference

SOURCES = reference.ROOT / "appcat"


@pytest.mark.parametrize("name", [reference.REFERENCE, reference.MAN_PAGE])
def test_document_is_what_the_code_gives(name: str) -> None:
    path = reference.ROOT / name
    committed = path.read_text(encoding="utf-8") if path.exists() else ""
    assert committed == reference.documents()[name], f"{name} is out of date: run scripts/reference"


@pytest.mark.skipif(not shutil.which("man"), reason="no man; scripts/test installs it where it may")
def test_man_page_is_readable(tmp_path: Path) -> None:
    page = tmp_path / "appcat.1"
    page.write_text(reference.man_page(), encoding="utf-8")
    done = subprocess.run(
        ["man", "--warnings", "-l", str(page)], env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "MANPAGER": "cat"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    for title in ("NAME", "SYNOPSIS", "DESCRIPTION", "COMMANDS", "ENVIRONMENT", "FILES", "EXIT STATUS", "SEE ALSO"):
        assert f"\n{title}\n" in f"\n{done.stdout}"


def test_every_variable_that_is_read_is_told_of() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES.rglob("*.py"))
    read = set(re.findall(r"(?:environ(?:\.get\(|\[)|env\.get\(|\bin )\s*\"(APPCAT_[A-Z_]+)\"", text))
    assert read, "the pattern fits nothing"
    assert read <= set(reference.environment())


def test_help_is_told_apart_from_its_examples() -> None:
    text = "One\nline.\n\nAnother.\n\n\b\nExamples:\n  appcat a\n    --b\n\n  appcat c\n"
    assert reference.split_help(text) == (("One line.", "Another."), ("appcat a", "  --b", "", "appcat c"))
    assert reference.split_help("") == ((), ())


def test_hidden_commands_and_options_are_left_out() -> None:
    import typer

    app = typer.Typer()

    @app.command()
    def seen(plain: int = 3, secret: bool = typer.Option(False, hidden=True)) -> None:
        """Seen."""

    @app.command(hidden=True)
    def unseen() -> None:
        pass

    found = list(reference.commands(typer.main.get_command(app), "cat"))
    assert [command.path for command in found] == ["cat", "cat seen"]
    (option,) = found[1].parameters
    assert "--plain" in option.names and "3" in option.help


def test_every_exit_status_is_told_once() -> None:
    assert list(reference.statuses()) == [*range(10), 124, 130, 141]
    assert all(text.endswith(".") for text in reference.statuses().values())
