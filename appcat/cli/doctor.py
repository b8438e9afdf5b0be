"""``appcat doctor``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from appcat.cli.engine import engine
from appcat.cli.options import Json
from appcat.cli.output import fitted, note, print_json, print_table, say

Bundle = Annotated[
    Path | None,
    typer.Option("--bundle", help="Write a report for a bug report, without names and secrets.", metavar="FILE"),
]
STYLES = {"ok": "green", "warning": "yellow", "failure": "red"}


def doctor(bundle: Bundle = None, as_json: Json = False) -> None:
    """Check this host, and say what to do about what is missing.

    \b
    Examples:
      appcat doctor
      appcat doctor --bundle report.tar.gz
    """
    raise typer.Exit(run_doctor(as_json, bundle))


def run_doctor(as_json: bool, bundle: Path | None = None) -> int:
    """Print the checks; 0 when nothing keeps vms from running, else 6 (``errors.Unavailable``).

    With ``bundle`` the checks go, with all else that a bug report needs, into that file.
    """
    if bundle is not None:
        return _write(as_json, bundle)
    checks = engine().doctor()
    if as_json:
        print_json(checks)
    else:
        rows = [[check["name"], check["health"], check["found"]] for check in checks]
        print_table(["CHECK", "STATE", "FOUND"], rows, STYLES)
        advice = [f"{check['name']}: {check['advice']}" for check in checks if check["advice"]]
        if advice:
            say("")
        for line in advice:
            say(fitted(line, sys.stdout, 2))
    return 6 if any(check["health"] == "failure" for check in checks) else 0


def _write(as_json: bool, bundle: Path) -> int:
    target = bundle.expanduser().absolute()
    files = engine().bundle(target)
    if as_json:
        print_json({"bundle": str(target), "files": files})
    else:
        say(str(target))
        note("Names, keys and passwords that could be recognised are left out; look through it before you send it.")
    return 0
