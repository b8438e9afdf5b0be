"""A recipe's TOML, read strictly: each key is asked for by name and converted, and what nobody asked for is refused."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from appcat.errors import InvalidInput
from appcat.model.name import shorten

T = TypeVar("T")
D = TypeVar("D")


def read_toml(content: str, source: str) -> dict[str, Any]:
    """What ``content`` holds; raises InvalidInput that names ``source``."""
    try:
        return tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"{source} is not TOML: {error}", code="invalid-recipe") from error


class Table:
    """A TOML table that is used up key by key, so that what is left over at the end was unknown."""

    def __init__(self, data: Mapping[str, Any], where: str) -> None:
        self.data = dict(data)
        self._where = where

    def get(self, key: str, convert: Callable[[Any], T]) -> T:
        """The value of ``key`` as ``convert`` makes it; raises InvalidInput naming the key."""
        if key not in self.data:
            raise self._refusal(key, "is missing")
        try:
            return convert(self.data.pop(key))
        except InvalidInput as error:
            raise self._refusal(key, error.message, error.hint) from error
        except ValueError as error:
            raise self._refusal(key, str(error)) from error

    def optional(self, key: str, convert: Callable[[Any], T], default: D) -> T | D:
        """Like ``get``, and ``default`` when the key is not there."""
        return self.get(key, convert) if key in self.data else default

    def table(self, key: str) -> Table:
        """The table below ``key``; a missing one is empty."""
        value = self.data.pop(key, {})
        if not isinstance(value, dict):
            raise self._refusal(key, "expected a table")
        return Table(value, f"{self._where}: {key}")

    def finish(self) -> None:
        """Refuse what nobody asked for."""
        for key in self.data:
            raise self._refusal(key, "unknown key")

    def _refusal(self, key: str, reason: str, hint: str = "") -> InvalidInput:
        return InvalidInput(f"{self._where}: {shorten(key)}: {reason}", hint=hint, code="invalid-recipe")


def text(value: Any) -> str:
    """A text that is not empty and can be shown on one line."""
    if isinstance(value, str) and value and value.isprintable():
        return value
    raise ValueError("expected a text")


def flag(value: Any) -> bool:
    """True or false."""
    if isinstance(value, bool):
        return value
    raise ValueError("expected true or false")


def tuple_of(convert: Callable[[Any], T]) -> Callable[[Any], tuple[T, ...]]:
    """A list, each item converted."""

    def convert_all(value: Any) -> tuple[T, ...]:
        if not isinstance(value, list):
            raise ValueError("expected a list")
        return tuple(convert(item) for item in value)

    return convert_all


def mapping_of(key: Callable[[Any], str], item: Callable[[Any], T]) -> Callable[[Any], Mapping[str, T]]:
    """A table whose keys are not known beforehand, each key and each value converted."""

    def convert_all(value: Any) -> Mapping[str, T]:
        if not isinstance(value, dict):
            raise ValueError("expected a table")
        return {key(name): item(content) for name, content in value.items()}

    return convert_all
