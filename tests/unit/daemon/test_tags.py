from __future__ import annotations

import pytest

from appcat.daemon.tags import if_match, is_known, quoted
from appcat.errors import InvalidInput


@pytest.mark.parametrize(
    ("header", "tags"),
    [
        (None, None),
        ("*", None),
        ('"a"', {"a"}),
        ('"a", "b"', {"a", "b"}),
        ('W/"a"', set()),
        ('""', {""}),
    ],
)
def test_if_match(header: str | None, tags: set[str] | None) -> None:
    assert if_match(header) == tags


@pytest.mark.parametrize("header", ["a", '"a', 'w/"a"', '"a" "b"', "", ",".join(['"a"'] * 18)])
def test_if_match_that_cannot_be_read_is_refused(header: str) -> None:
    with pytest.raises(InvalidInput):
        if_match(header)


@pytest.mark.parametrize(
    ("header", "known"),
    [(None, False), ("*", True), ('"a"', True), ('W/"a"', True), ('"b", "a"', True), ('"b"', False), ("a", False)],
)
def test_if_none_match(header: str | None, known: bool) -> None:
    assert is_known(header, "a") is known


def test_quoted() -> None:
    assert quoted("a") == '"a"'
