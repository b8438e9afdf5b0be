"""``config``: the defaults of a home. An environment variable goes before the file, an option before both."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from appcat.errors import AppcatError, Broken
from appcat.model import codec
from appcat.model.config import KEYS, SCHEMA, Config, Key, find_key, parse_file
from appcat.services.context import Context
from appcat.store import locks
from appcat.store.files import make_private_directory, write_atomic

KIND = codec.Kind("config.json", SCHEMA)

T = TypeVar("T")


@dataclass(frozen=True)
class Setting:
    """One default as it stands: ``value`` is None when nobody set it; ``source`` is where it comes from."""

    key: str
    value: str | None
    source: str
    help: str

    @property
    def shown(self) -> str | None:
        """The value for where many look: without what is secret in it."""
        return None if self.value is None else find_key(self.key).shown(self.value)


def read(ctx: Context) -> Config:
    """What the file holds, unknown keys of other versions included; raises Broken."""
    try:
        return codec.loads(Config, ctx.layout.config.read_text(encoding="utf-8"), KIND)
    except FileNotFoundError:
        return Config()
    except (OSError, UnicodeDecodeError) as error:
        raise Broken(f"config.json cannot be read: {error}", hint=f"mend or remove {ctx.layout.config}") from error
    except Broken as error:
        error.hint = error.hint or f"mend or remove {ctx.layout.config}"
        raise


def value_of(ctx: Context, name: str, parse: Callable[[str], T], fallback: T) -> T:
    """The default called ``name``, parsed, or ``fallback`` when it is set nowhere.

    Raises InvalidInput that names where the bad value comes from, Broken.
    """
    found = get(ctx, name)
    if found.value is None:
        return fallback
    try:
        return parse(found.value)
    except AppcatError as error:
        error.message = f"{found.source}: {error.message}"
        raise


def get(ctx: Context, name: str) -> Setting:
    """One setting; raises InvalidInput for an unknown key, Broken."""
    key = find_key(name)
    variable = Key.variable(name)
    if given := os.environ.get(variable):
        return Setting(name, given, variable, key.help)
    stored = read(ctx).values.get(name)
    return Setting(name, stored, "config.json" if stored is not None else "not set", key.help)


def list_settings(ctx: Context) -> list[Setting]:
    """All settings, set or not."""
    return [get(ctx, name) for name in KEYS]


def set_(ctx: Context, name: str, value: str) -> None:
    """Remember ``value``; raises InvalidInput when it can never work, and Broken."""
    find_key(name).check(value)
    if name == "ca-certificates":
        _check_authorities(value)
    _change(ctx, lambda values: {**values, name: value})
    _tell(ctx, name, find_key(name).shown(value))


def unset(ctx: Context, name: str) -> None:
    """Forget a setting; raises InvalidInput for an unknown key, and Broken."""
    find_key(name)
    _change(ctx, lambda values: {key: value for key, value in values.items() if key != name})
    _tell(ctx, name, None)


def _check_authorities(value: str) -> None:
    from appcat.guest.authorities import read_authorities

    read_authorities(parse_file(value))


def _tell(ctx: Context, key: str, value: str | None) -> None:
    from appcat.model.event import EventKind
    from appcat.services.events import record

    record(ctx, EventKind.CONFIG_CHANGED, key=key, value=value)


def _change(ctx: Context, change: Callable[[dict[str, str]], dict[str, str]]) -> None:
    make_private_directory(ctx.layout.home)
    with locks.hold(ctx.layout.home_lock, "config"):
        write_atomic(ctx.layout.config, codec.dumps(Config(change(read(ctx).values)), KIND))
