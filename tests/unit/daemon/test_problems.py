from __future__ import annotations

import errno
import json
from collections.abc import Iterator

import pytest

from appcat import errors
from appcat.daemon import problems
from appcat.errors import AppcatError

EXPECTED = {
    "InvalidInput": 400, "NotFound": 404, "Conflict": 409, "AlreadyExists": 409, "Busy": 409, "WrongState": 409,
    "PortInUse": 409, "Cancelled": 409, "Stale": 412, "Broken": 409, "Unavailable": 503,
    "InsufficientSpace": 507,
    "InsufficientMemory": 503, "MissingTool": 503,
    "NetworkError": 503, "CommandError": 502, "BuildError": 502, "QemuError": 502,
    "GuestError": 502, "DeadlineExceeded": 504, "AppcatError": 500,
}  # fmt: skip


def family(kind: type[AppcatError] = AppcatError) -> Iterator[type[AppcatError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from family(child)


def test_every_kind_of_error_has_its_status() -> None:
    found = {kind.__name__: problems.status_of(kind("x")) for kind in family() if kind.__module__ == errors.__name__}
    assert found == EXPECTED


def test_code_says_more_than_the_class() -> None:
    assert problems.status_of(errors.InvalidInput("x", code="too-large")) == 413
    assert problems.status_of(AppcatError("x", code="unauthorized")) == 401


def test_problem_holds_all_there_is_to_know() -> None:
    error = errors.CommandError("it failed \udcff", hint="look", details="last\nlines")
    told = json.loads(problems.encode(error))
    assert told == {
        "code": "command-failed", "message": "it failed ?", "hint": "look", "details": "last\nlines", "exit_code": 7,
    }  # fmt: skip


def test_full_disk_is_told_as_such() -> None:
    assert problems.status_of(problems.as_error(OSError(errno.ENOSPC, "full"))) == 507


def test_validation_names_the_field() -> None:
    faults = [
        {"loc": ("body", "disks", 0, "size"), "msg": "Input should be a valid integer."},
        {"loc": ("query", "tail"), "msg": "Field required"},
        {"loc": ("body",), "msg": "JSON decode error"},
    ]
    error = problems.validation_error(faults)
    assert error.message == "disks[0].size: input should be a valid integer"
    assert error.details == "tail: field required\nbody: JSON decode error"
    assert error.code == "invalid-input"


@pytest.mark.parametrize("path", ["/a\nb", "/" + "x" * 500])
def test_paths_are_shown_in_one_line(path: str) -> None:
    assert "\n" not in problems.shown(path) and len(problems.shown(path)) <= 80


def test_field_that_nobody_knows_is_named_in_one_line() -> None:
    """Found by fuzzing: its name is the sender's."""
    fault = {
        "type": "extra_forbidden",
        "loc": ("body", "\n\x1f\ud83d" + "x" * 500),
        "msg": "Extra inputs are not permitted",
    }
    error = problems.validation_error([fault])
    assert "\n" not in error.message and len(error.message) < 130
    assert json.loads(problems.encode(error))["message"] == error.message
