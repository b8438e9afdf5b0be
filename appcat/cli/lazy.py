"""Commands that are imported when they are used: a program with many of them starts as fast as one with few."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

import typer
import typer.main

Command = Any  # click's own class: typer carries a copy of click in newer versions and imports it in older ones

SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"]}
OPTIONS: dict[str, Any] = {
    "add_completion": False,
    "pretty_exceptions_enable": False,
    "rich_markup_mode": None,  # "[/udp]" in a help text is no markup
    "context_settings": SETTINGS,
}


# Commands for programs, which no help mentions.
HIDDEN = frozenset({"appcat.cli.daemon:dial", "appcat.cli.vm_tunnel:tunnel"})


class Commands(MutableMapping[str, Command]):
    """A group's commands by name: ``module:function`` for a command, ``module`` for a group (its ``group``)."""

    def __init__(self, sources: Mapping[str, str]) -> None:
        self._sources = dict(sources)
        self._made: dict[str, Command] = {}

    def __getitem__(self, name: str) -> Command:
        if name not in self._made:
            self._made[name] = _make(name, self._sources[name])
        return self._made[name]

    def __setitem__(self, name: str, command: Command) -> None:
        self._sources.setdefault(name, "")
        self._made[name] = command

    def __delitem__(self, name: str) -> None:
        del self._sources[name]
        self._made.pop(name, None)

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)


def group_of(text: str, sources: Mapping[str, str], callback: Callable[..., None] | None = None) -> Command:
    """A group with help ``text``; ``callback`` takes its own options."""
    app = typer.Typer(help=text, no_args_is_help=True, **OPTIONS)
    app.callback()(callback or _nothing)
    made: Any = typer.main.get_command(app)
    made.help = text
    made.commands = Commands(sources)
    return made


def _nothing() -> None:
    pass


def _make(name: str, source: str) -> Command:
    module, _, function = source.partition(":")
    loaded = importlib.import_module(module)
    made: Any = _single(name, getattr(loaded, function)) if function else loaded.group
    made.name = name
    made.hidden = source in HIDDEN
    return made


def _single(name: str, function: Callable[..., Any]) -> Command:
    app = typer.Typer(**OPTIONS)
    app.command(name, context_settings=SETTINGS)(function)
    return typer.main.get_command(app)
