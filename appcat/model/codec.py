"""Dataclasses to JSON and back, strictly: what is not in the schema is refused, never dropped.

A document is a JSON object with a ``schema`` number. An older number is lifted step by step by the migrations its
kind registers; a newer one is refused, since writing it back would lose what a newer appcat put there.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import types
import typing
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, TypeVar

from appcat.errors import Broken

T = TypeVar("T")
Json = dict[str, Any]
Migration = Callable[[Json], Json]


@dataclasses.dataclass(frozen=True)
class Kind:
    """A sort of document: its current schema number and, per older number, the step to the next."""

    name: str
    schema: int
    migrations: Mapping[int, Migration] = dataclasses.field(default_factory=dict)


def dumps(value: Any, kind: Kind) -> str:
    """The document that holds dataclass ``value``: stable key order, so that files compare."""
    return json.dumps({"schema": kind.schema, **encode(value)}, indent=2, ensure_ascii=False) + "\n"


def dumps_line(value: Any, kind: Kind) -> bytes:
    """The document on one line, its end included, in ASCII: for files that are appended to."""
    text = json.dumps({"schema": kind.schema, **encode(value)}, separators=(",", ":"), default=str)
    return text.encode("ascii") + b"\n"


def loads(cls: type[T], text: str | bytes, kind: Kind) -> T:
    """The ``cls`` in a document; raises Broken with what is wrong and where."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Broken(f"{kind.name} is not JSON: {error}") from error
    if not isinstance(data, dict):
        raise Broken(f"{kind.name} is not a JSON object")
    return decode(cls, _migrate(data, kind), kind.name)


def _migrate(data: Json, kind: Kind) -> Json:
    body = dict(data)
    schema = body.pop("schema", None)
    if type(schema) is not int or schema < 1:
        raise Broken(f"{kind.name} has no schema number")
    if schema > kind.schema:
        raise Broken(
            f"{kind.name} was written by a newer appcat (schema {schema}; this one reads up to {kind.schema})",
            hint="upgrade appcat",
        )
    for step in range(schema, kind.schema):
        if step not in kind.migrations:
            raise Broken(f"{kind.name} has schema {step}, which this appcat can no longer read")
        body = kind.migrations[step](body)
    return body


def encode(value: Any) -> Any:
    """JSON-ready data for a dataclass, enum, tuple, dict or scalar."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: encode(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple | list):
        return [encode(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    return value


def decode(cls: type[T], data: Any, where: str) -> T:
    """A dataclass of type ``cls`` from a JSON object; ``where`` leads the message of the Broken it may raise."""
    if not isinstance(data, dict):
        raise Broken(f"{where}: expected an object")
    kind: Any = cls  # mypy does not see that a class can be hashed
    hints = _hints(kind)
    if unknown := sorted(set(data) - set(hints)):
        raise Broken(f"{where}: unknown key {unknown[0]!r}")
    if missing := [name for name in _required(kind) if name not in data]:
        raise Broken(f"{where}: {missing[0]!r} is missing")
    return cls(**{key: _value(hints[key], item, f"{where}.{key}") for key, item in data.items()})


@functools.cache
def _hints(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls)


@functools.cache
def _required(cls: Any) -> tuple[str, ...]:
    missing = dataclasses.MISSING
    return tuple(
        field.name for field in dataclasses.fields(cls) if field.default is missing and field.default_factory is missing
    )


def _value(hint: Any, data: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return _optional(hint, data, where)
    if origin is tuple:
        return _items(hint, data, where)
    if origin is dict:
        return _mapping(hint, data, where)
    if dataclasses.is_dataclass(hint):
        return decode(typing.cast(type, hint), data, where)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _enum(hint, data, where)
    return _scalar(hint, data, where)


def _optional(hint: Any, data: Any, where: str) -> Any:
    if data is None:
        return None
    (inner,) = (arg for arg in typing.get_args(hint) if arg is not type(None))
    return _value(inner, data, where)


def _items(hint: Any, data: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(data, list):
        raise Broken(f"{where}: expected a list")
    item_hint = typing.get_args(hint)[0]
    return tuple(_value(item_hint, item, f"{where}[{index}]") for index, item in enumerate(data))


def _mapping(hint: Any, data: Any, where: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise Broken(f"{where}: expected an object")
    item_hint = typing.get_args(hint)[1]
    return {key: _value(item_hint, item, f"{where}.{key}") for key, item in data.items()}


def _enum(hint: type[Enum], data: Any, where: str) -> Enum:
    try:
        return hint(data)
    except ValueError as error:
        raise Broken(f"{where}: {data!r} is not one of {', '.join(str(item.value) for item in hint)}") from error


def _scalar(hint: Any, data: Any, where: str) -> Any:
    if hint in (object, Any):
        return data
    if hint is float and type(data) is int:
        return float(data)
    if type(data) is not hint:
        raise Broken(f"{where}: expected {hint.__name__}")
    return data
