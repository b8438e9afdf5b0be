"""A template's recipe: what ``template.toml`` says, checked.

Paths inside the guest are absolute (``/usr/bin/busybox``), paths beside ``template.toml`` relative, and neither may
climb with ``..``. Guests have merged /usr: ``/bin``, ``/sbin`` and ``/lib`` are links; a recipe names the real place.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from appcat.errors import InvalidInput
from appcat.model.image import SshServer
from appcat.model.name import check_name, shorten
from appcat.model.size import parse_memory, parse_size
from appcat.model.vm import LARGEST_CPUS, Arch

T = TypeVar("T")
D = TypeVar("D")
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]*", re.ASCII)
_WORD = re.compile(r"[\x21-\x7e]+", re.ASCII)
_MODE = re.compile(r"[01][0-7]{3}", re.ASCII)


@dataclass(frozen=True)
class Kernel:
    """A kernel package, what it is told at boot, and its modules by name.

    ``boot`` modules are loaded at every boot; ``modules`` travel along and are loaded when something asks for them.
    What either depends on comes by itself.
    """

    package: str
    arguments: tuple[str, ...]
    boot: tuple[str, ...]
    modules: tuple[str, ...]


@dataclass(frozen=True)
class LocalFile:
    """A file of the template directory and its permissions in the guest."""

    source: str
    mode: int


@dataclass(frozen=True)
class Recipe:
    """A whole template.

    ``memory`` and ``limit`` are in bytes; ``limit`` bounds kernel and initramfs together. ``packages`` maps each
    package to the paths taken out of it; the shared libraries those need come by themselves. ``guest`` is where
    appcat's own guest program goes. ``applets`` is a program that gets a link for each name it answers to.
    """

    name: str
    description: str
    login: str
    ssh: SshServer
    guest: str
    cpus: int
    memory: int
    kernels: Mapping[Arch, Kernel]
    packages: Mapping[str, tuple[str, ...]]
    limit: int | None = None
    applets: str | None = None
    files: Mapping[str, LocalFile] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    directories: Mapping[str, int] = field(default_factory=dict)


def parse_recipe(text: str, source: str) -> Recipe:
    """The recipe in ``text``; raises InvalidInput that names ``source`` and the key that is wrong."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"{source} is not TOML: {error}", code="invalid-recipe") from error
    table = _Table(data, source)
    defaults = table.table("defaults")
    recipe = Recipe(
        name=table.get("name", lambda value: check_name(_text(value))),
        description=table.get("description", _text),
        login=table.get("login", lambda value: check_name(_text(value))),
        ssh=table.get("ssh", SshServer),
        guest=table.get("guest", _guest_path),
        cpus=defaults.get("cpus", _cpus),
        memory=defaults.get("memory", lambda value: parse_memory(_text(value))),
        kernels=_kernels(table.table("kernel")),
        packages=table.get("packages", _mapping(_package, _tuple(_guest_path))),
        limit=table.optional("limit", lambda value: parse_size(_text(value)), None),
        applets=table.optional("applets", _guest_path, None),
        files=table.optional("files", _mapping(_guest_path, _local_file), {}),
        links=table.optional("links", _mapping(_guest_path, _text), {}),
        directories=table.optional("directories", _mapping(_guest_path, _mode), {}),
    )
    defaults.finish()
    table.finish()
    return recipe


def _kernels(table: _Table) -> Mapping[Arch, Kernel]:
    arguments = table.optional("arguments", _tuple(_word), ())
    boot = table.optional("boot", _tuple(_word), ())
    modules = table.optional("modules", _tuple(_word), ())
    kernels = {}
    for arch in Arch:
        if arch not in table.data:
            continue
        own = table.table(arch)
        more = own.optional("arguments", _tuple(_word), ())
        kernels[arch] = Kernel(own.get("package", _package), arguments + more, boot, modules)
        own.finish()
    table.finish()
    return kernels


class _Table:
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

    def table(self, key: str) -> _Table:
        """The table below ``key``; a missing one is empty."""
        value = self.data.pop(key, {})
        if not isinstance(value, dict):
            raise self._refusal(key, "expected a table")
        return _Table(value, f"{self._where}: {key}")

    def finish(self) -> None:
        """Refuse what nobody asked for."""
        for key in self.data:
            raise self._refusal(key, "unknown key")

    def _refusal(self, key: str, reason: str, hint: str = "") -> InvalidInput:
        return InvalidInput(f"{self._where}: {shorten(key)}: {reason}", hint=hint, code="invalid-recipe")


def _text(value: Any) -> str:
    if isinstance(value, str) and value and value.isprintable():
        return value
    raise ValueError("expected a text")


def _matching(pattern: re.Pattern[str], what: str) -> Callable[[Any], str]:
    def convert(value: Any) -> str:
        if pattern.fullmatch(_text(value)):
            return str(value)
        raise ValueError(f"{shorten(value)} is not {what}")

    return convert


_word = _matching(_WORD, "a word")
_package = _matching(_PACKAGE, "a package name")


def _mode(value: Any) -> int:
    return int(_matching(_MODE, "a mode such as 0644")(value), 8)


def _cpus(value: Any) -> int:
    if type(value) is int and 1 <= value <= LARGEST_CPUS:
        return value
    raise ValueError(f"expected a number from 1 to {LARGEST_CPUS}")


def _guest_path(value: Any) -> str:
    text = _text(value)
    if text.startswith("/") and _is_straight(text[1:]):
        return text
    raise ValueError(f"{shorten(text)} is not a plain absolute path")


def _local_path(value: Any) -> str:
    text = _text(value)
    if _is_straight(text):
        return text
    raise ValueError(f"{shorten(text)} is not a path inside the template's directory")


def _is_straight(path: str) -> bool:
    """Whether each part of a relative path is a real step down: nothing empty, no ``.``, no ``..``."""
    return all(part not in ("", ".", "..") for part in path.split("/"))


def _local_file(value: Any) -> LocalFile:
    if not isinstance(value, dict):
        raise ValueError("expected { source = ..., mode = ... }")
    table = _Table(value, "file")
    local = LocalFile(table.get("source", _local_path), table.get("mode", _mode))
    table.finish()
    return local


def _tuple(convert: Callable[[Any], T]) -> Callable[[Any], tuple[T, ...]]:
    def convert_all(value: Any) -> tuple[T, ...]:
        if not isinstance(value, list):
            raise ValueError("expected a list")
        return tuple(convert(item) for item in value)

    return convert_all


def _mapping(key: Callable[[Any], str], item: Callable[[Any], T]) -> Callable[[Any], Mapping[str, T]]:
    def convert_all(value: Any) -> Mapping[str, T]:
        if not isinstance(value, dict):
            raise ValueError("expected a table")
        return {key(name): item(content) for name, content in value.items()}

    return convert_all
