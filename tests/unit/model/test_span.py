from __future__ import annotations

from datetime import timedelta

import pytest

from appcat.errors import InvalidInput
from appcat.model.span import parse_span


@pytest.mark.parametrize(
    ("text", "span"),
    [("1m", timedelta(minutes=1)), ("12h", timedelta(hours=12)), ("30d", timedelta(30)), ("2w", timedelta(14))],
)
def test_span_is_read(text: str, span: timedelta) -> None:
    assert parse_span(text) == span


@pytest.mark.parametrize("text", ["", "30", "d", "0d", "-1d", "1.5d", "1y", "1d ", "4000d", "999999w", "٣d", "1d2h"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_span(text)
    assert caught.value.code == "invalid-time"
