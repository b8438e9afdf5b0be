from __future__ import annotations

import errno
import re

import pytest

from appcat import errors
from appcat.errors import AppcatError, InsufficientSpace, Unavailable, from_os_error
from appcat.qemu import monitor

TREE_LINE = re.compile(r"^ {4}(?P<indent>[|` -]*)(?P<name>[A-Z]\w+)", re.MULTILINE)
STEP = 4


def classes(module: object) -> list[type[AppcatError]]:
    return [item for item in vars(module).values() if isinstance(item, type) and issubclass(item, AppcatError)]


def drawn_tree(docstring: str) -> dict[str, str | None]:
    """Class name -> name of its parent, as a module's docstring draws it."""
    parents: dict[str, str | None] = {}
    path: list[str] = []
    for match in TREE_LINE.finditer(docstring):
        depth = len(match["indent"]) // STEP
        path[depth:] = [match["name"]]
        parents[match["name"]] = path[depth - 1] if depth else None
    return parents


def test_docstring_draws_the_whole_tree() -> None:
    drawn = drawn_tree(errors.__doc__ or "")
    assert drawn.pop("AppcatError") is None
    real = {cls.__name__: cls.__mro__[1].__name__ for cls in classes(errors) if cls is not AppcatError}
    assert drawn == real


def test_monitor_draws_its_own_branch() -> None:
    drawn = drawn_tree(monitor.__doc__ or "")
    assert drawn.pop("MonitorError") is None
    own = [cls for cls in classes(monitor) if cls.__module__ == monitor.__name__ and cls is not monitor.MonitorError]
    assert drawn == {cls.__name__: cls.__mro__[1].__name__ for cls in own}


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [cls.code for cls in classes(errors)]
    assert len(codes) == len(set(codes))
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", code) for code in codes)


@pytest.mark.parametrize("cls", classes(errors))
def test_every_error_says_what_it_is_for_and_ends_the_program_badly(cls: type[AppcatError]) -> None:
    assert cls.__doc__
    assert 1 <= cls.exit_code < 64


def test_one_error_may_carry_a_finer_code() -> None:
    error = Unavailable("what happened", hint="what to do", details="more", code="no-file-locks")
    assert (str(error), error.hint, error.details, error.code) == (
        "what happened",
        "what to do",
        "more",
        "no-file-locks",
    )
    assert Unavailable("x").code == "unavailable"


@pytest.mark.parametrize(
    ("number", "cls", "code"),
    [
        (errno.ENOSPC, InsufficientSpace, "no-space"),
        (errno.EDQUOT, InsufficientSpace, "no-space"),
        (errno.EACCES, Unavailable, "not-permitted"),
        (errno.EROFS, Unavailable, "not-permitted"),
        (errno.EIO, Unavailable, "os-error"),
    ],
)
def test_system_errors_become_ours(number: int, cls: type[AppcatError], code: str) -> None:
    error = from_os_error(OSError(number, "why", "/some/file"), "writing vm.json")
    assert type(error) is cls
    assert error.code == code
    assert "while writing vm.json" in error.message
    assert error.hint


def test_system_error_without_a_file_reads_well() -> None:
    assert from_os_error(OSError(errno.ENOSPC, "x"), "writing").message == "no space left while writing"
