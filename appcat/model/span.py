"""Spans of time as people write them: ``30d``, ``12h``."""

from __future__ import annotations

import re
from datetime import timedelta

from appcat.errors import InvalidInput
from appcat.model.name import shorten

UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
LONGEST = timedelta(days=3660)


def parse_span(text: str) -> timedelta:
    """A number with a unit; raises InvalidInput for anything else, nothing, and more than ten years."""
    found = re.fullmatch(r"([0-9]{1,6})([mhdw])", text, re.ASCII)
    span = timedelta(**{UNITS[found[2]]: int(found[1])}) if found else timedelta()
    if timedelta() < span <= LONGEST:
        return span
    raise InvalidInput(
        f"{shorten(text)} is not a span of time",
        hint="give a number with m, h, d or w, such as 30d; ten years at most",
        code="invalid-time",
    )
