"""``--filter``: which vms of a list are meant."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass

from appcat.errors import InvalidInput
from appcat.model.name import shorten, suggestion
from appcat.model.status import Observation, Status

KEYS = ("label", "name", "status", "template")


@dataclass(frozen=True)
class Filter:
    """``key=value``; of a label, ``value`` is ``KEY`` or ``KEY=VALUE``."""

    key: str
    value: str


def parse_filters(texts: list[str]) -> list[Filter]:
    """Filters from ``key=value`` texts, several in one when commas part them; raises InvalidInput."""
    return [_parse(part.strip()) for text in texts for part in text.split(",")]


def _parse(text: str) -> Filter:
    key, equals, value = text.partition("=")
    if key not in KEYS or not equals or not value:
        hint = suggestion(key, KEYS) or "write label=KEY[=VALUE], name=PATTERN, status=STATUS or template=NAME"
        raise InvalidInput(f"{shorten(text)} is not a filter", hint=hint, code="invalid-filter")
    if key == "status" and value not in list(Status):
        hint = suggestion(value, Status) or f"one of: {', '.join(Status)}"
        raise InvalidInput(f"{shorten(value)} is not a status", hint=hint, code="invalid-filter")
    return Filter(key, value)


def matches(seen: Observation, filters: list[Filter]) -> bool:
    """Whether all of ``filters`` hold; a broken vm has neither template nor labels."""
    return all(_holds(seen, wanted) for wanted in filters)


def _holds(seen: Observation, wanted: Filter) -> bool:
    if wanted.key == "status":
        return str(seen.status) == wanted.value
    if wanted.key == "name":
        return fnmatch.fnmatchcase(seen.name, wanted.value)
    if seen.vm is None:
        return False
    if wanted.key == "template":
        return seen.vm.template.name == wanted.value
    key, equals, value = wanted.value.partition("=")
    return seen.vm.labels.get(key) == value if equals else key in seen.vm.labels
