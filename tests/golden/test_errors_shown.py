"""Errors as a user sees them."""

from __future__ import annotations

import json

import pytest

from appcat.cli.output import print_error
from appcat.errors import AppcatError, Busy, CommandError, Unavailable
from tests.golden.golden import check

ERRORS = {
    "plain": AppcatError("something went wrong"),
    "with-hint": Busy("web is busy: clone (process 4242)", hint="wait for it to end, then try again"),
    "with-details": CommandError(
        "qemu-img failed: no such option", hint="try it by hand: qemu-img create", details="first\n\nlast line\n"
    ),
    "details-that-only-repeat": Unavailable("no flock here", hint="move", details="no flock here"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_error_reads_as_reviewed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_error(ERRORS[name], as_json=False)
    said = capsys.readouterr()
    assert said.out == ""
    check(f"error-{name}.txt", said.err)


@pytest.mark.parametrize("name", ERRORS)
def test_error_for_programs_is_one_json_object_on_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    error = ERRORS[name]
    print_error(error, as_json=True)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert json.loads(said) == {
        "code": error.code,
        "message": error.message,
        "hint": error.hint,
        "details": error.details,
    }
