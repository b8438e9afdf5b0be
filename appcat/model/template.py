"""A template's recipe: what ``template.toml`` says, checked.

Paths inside the guest are absolute (``/usr/bin/busybox``), paths beside ``template.toml`` relative, and neither may
climb with ``..``. Guests have merged /usr: ``/bin``, ``/sbin`` and ``/lib`` are links; a recipe names the real place.

A recipe with a ``base`` says only what it adds: ``inherit`` puts the two together before anything is checked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from appcat.errors import InvalidInput
from appcat.model.image import Root, SshServer
from appcat.model.name import check_name, shorten
from appcat.model.port import SSH_PORT, check_port_number
from appcat.model.size import GIB, parse_memory, parse_size
from appcat.model.table import Table, flag, mapping_of, read_toml, text, tuple_of
from appcat.model.vm import LARGEST_CPUS, ROOT_DISK, Arch, check_disk_name

# What ``source`` begins with where a file is not the template's own: @TEMPLATE/FILE, or @guest/FILE for what all share.
ELSEWHERE = "@"
SHARED = "guest"
SMALLEST_ROOT = GIB

_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]*", re.ASCII)
_WORD = re.compile(r"[\x21-\x7e]+", re.ASCII)
_MODE = re.compile(r"[01][0-7]{3}", re.ASCII)
_ACCOUNT = re.compile(r"[a-z_][a-z0-9_-]{0,31}", re.ASCII)
_UNIT = re.compile(r"[A-Za-z0-9:_.@-]+\.[a-z]+", re.ASCII)


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
class User:
    """An account of a guest with a root disk: it has a home and no password. ``sudo`` is without asking for one."""

    groups: tuple[str, ...] = ()
    shell: str = "/bin/bash"
    sudo: bool = False


@dataclass(frozen=True)
class Recipe:
    """A whole template.

    ``memory``, ``size`` and ``limit`` are in bytes; ``limit`` bounds what is on disk of an image. ``guest`` is where
    appcat's own guest program goes.

    With its root in memory ``packages`` maps each package to the paths taken out of it; the shared libraries those need
    come by themselves. ``applets`` is a program that gets a link for each name it answers to.

    With its root on a disk of ``size`` bytes, ``install`` names packages that are installed with all they depend on;
    then come ``users`` and ``files``, systemd units in ``enable`` and ``mask``, and ``commands``, run by a shell as
    root. ``base`` is the template that all this was added to.

    ``disks`` are data disks, by name in bytes, that each vm has from the beginning. ``ports`` of it are published by
    their numbers. In the directory ``certificate`` it finds one of its own (``guest.identity.certificate_statements``).
    """

    name: str
    description: str
    login: str
    ssh: SshServer
    guest: str
    cpus: int
    memory: int
    kernels: Mapping[Arch, Kernel]
    root: Root = Root.MEMORY
    packages: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    limit: int | None = None
    applets: str | None = None
    files: Mapping[str, LocalFile] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    directories: Mapping[str, int] = field(default_factory=dict)
    size: int = 0
    install: tuple[str, ...] = ()
    users: Mapping[str, User] = field(default_factory=dict)
    enable: tuple[str, ...] = ()
    mask: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    base: str = ""
    disks: Mapping[str, int] = field(default_factory=dict)
    ports: tuple[int, ...] = ()
    certificate: str = ""


def read_recipe_text(content: str, source: str) -> dict[str, Any]:
    """A recipe as it stands in the file; raises InvalidInput."""
    return read_toml(content, source)


def base_of(data: Mapping[str, Any], source: str) -> str:
    """The template that a recipe is based on, or nothing; raises InvalidInput."""
    return Table(data, source).optional("base", lambda value: check_name(text(value)), "")


def inherit(own: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe with what it takes over from its base.

    Tables are joined key by key, lists are the base's and then its own, and of anything else its own counts. What the
    base's files come from is said in full (``localized``).
    """
    whole = dict(base)
    for key, value in own.items():
        below = whole.get(key)
        if isinstance(value, dict) and isinstance(below, dict) and key != "files":
            whole[key] = inherit(value, below)
        elif key == "files" and isinstance(value, dict) and isinstance(below, dict):
            whole[key] = {**below, **value}
        elif isinstance(value, list) and isinstance(below, list):
            whole[key] = [*below, *value]
        else:
            whole[key] = value
    return whole


def localized(data: Mapping[str, Any], template: str) -> dict[str, Any]:
    """A recipe whose files say which template they come from, for another to inherit."""
    files = data.get("files")
    if not isinstance(files, dict):
        return dict(data)
    return {**data, "files": {path: _localized(entry, template) for path, entry in files.items()}}


def _localized(entry: Any, template: str) -> Any:
    if not isinstance(entry, dict) or not isinstance(source := entry.get("source"), str) or source[:1] == ELSEWHERE:
        return entry
    return {**entry, "source": f"{ELSEWHERE}{template}/{source}"}


def parse_recipe(data: Mapping[str, Any], source: str) -> Recipe:
    """The recipe in ``data``; raises InvalidInput that names ``source`` and the key that is wrong."""
    table = Table(data, source)
    defaults, services = table.table("defaults"), table.table("services")
    recipe = Recipe(
        name=table.get("name", lambda value: check_name(text(value))),
        description=table.get("description", text),
        login=table.get("login", _account),
        ssh=table.get("ssh", SshServer),
        guest=table.get("guest", _guest_path),
        cpus=defaults.get("cpus", _cpus),
        memory=defaults.get("memory", lambda value: parse_memory(text(value))),
        kernels=_kernels(table.table("kernel")),
        root=table.optional("root", Root, Root.MEMORY),
        packages=table.optional("packages", mapping_of(_package, tuple_of(_guest_path)), {}),
        limit=table.optional("limit", lambda value: parse_size(text(value)), None),
        applets=table.optional("applets", _guest_path, None),
        files=table.optional("files", mapping_of(_guest_path, _local_file), {}),
        links=table.optional("links", mapping_of(_guest_path, text), {}),
        directories=table.optional("directories", mapping_of(_guest_path, _mode), {}),
        size=table.optional("size", _root_size, 0),
        install=table.optional("install", tuple_of(_package), ()),
        users=table.optional("users", mapping_of(_account, _user), {}),
        enable=services.optional("enable", tuple_of(_unit), ()),
        mask=services.optional("mask", tuple_of(_unit), ()),
        commands=table.optional("commands", tuple_of(text), ()),
        disks=table.optional("disks", mapping_of(_data_disk, lambda value: parse_size(text(value))), {}),
        base=table.optional("base", lambda value: check_name(text(value)), ""),
        ports=table.optional("ports", _ports, ()),
        certificate=table.optional("certificate", _guest_path, ""),
    )
    for part in (defaults, services, table):
        part.finish()
    return _consistent(recipe, source)


def _consistent(recipe: Recipe, source: str) -> Recipe:
    """Refuse keys that mean nothing for a root of this kind: whoever wrote them expects something else."""
    only_disk: dict[str, object] = {
        "size": recipe.size,
        "install": recipe.install,
        "users": recipe.users,
        "services": recipe.enable or recipe.mask,
        "commands": recipe.commands,
        "base": recipe.base,
    }
    only_memory: dict[str, object] = {"packages": recipe.packages, "applets": recipe.applets}
    needed: dict[str, object]
    if recipe.root is Root.DISK:
        wrong, needed = only_memory, {"size": recipe.size, "install": recipe.install}
    else:
        wrong, needed = only_disk, {"packages": recipe.packages}
    for key in (key for key, value in wrong.items() if value):
        raise InvalidInput(f"{source}: {key} is not for templates whose root is {recipe.root}", code="invalid-recipe")
    for key in (key for key, value in needed.items() if not value):
        raise InvalidInput(f"{source}: {key}: is missing (root is {recipe.root})", code="invalid-recipe")
    if recipe.root is Root.DISK and recipe.login != "root" and recipe.login not in recipe.users:
        raise InvalidInput(f"{source}: login: {recipe.login} is not among the users", code="invalid-recipe")
    return recipe


def _kernels(table: Table) -> Mapping[Arch, Kernel]:
    arguments = table.optional("arguments", tuple_of(_word), ())
    boot = table.optional("boot", tuple_of(_word), ())
    modules = table.optional("modules", tuple_of(_word), ())
    kernels = {}
    for arch in Arch:
        if arch not in table.data:
            continue
        own = table.table(arch)
        more = own.optional("arguments", tuple_of(_word), ())
        kernels[arch] = Kernel(own.get("package", _package), arguments + more, boot, modules)
        own.finish()
    table.finish()
    return kernels


def _matching(pattern: re.Pattern[str], what: str) -> Callable[[Any], str]:
    def convert(value: Any) -> str:
        if pattern.fullmatch(text(value)):
            return str(value)
        raise ValueError(f"{shorten(value)} is not {what}")

    return convert


_word = _matching(_WORD, "a word")
_package = _matching(_PACKAGE, "a package name")
_account = _matching(_ACCOUNT, "a name for an account")
_unit = _matching(_UNIT, "a systemd unit such as ssh.service")


def _mode(value: Any) -> int:
    return int(_matching(_MODE, "a mode such as 0644")(value), 8)


def _cpus(value: Any) -> int:
    if type(value) is int and 1 <= value <= LARGEST_CPUS:
        return value
    raise ValueError(f"expected a number from 1 to {LARGEST_CPUS}")


def _data_disk(value: Any) -> str:
    if value == ROOT_DISK:
        raise ValueError(f"the size of the disk {ROOT_DISK} is the template's size")
    return check_disk_name(text(value))


def _ports(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(type(number) is int for number in value):
        raise ValueError("expected a list of port numbers")
    if SSH_PORT in value:
        raise ValueError(f"port {SSH_PORT} is published already")
    return tuple(dict.fromkeys(check_port_number(number) for number in value))


def _root_size(value: Any) -> int:
    size = parse_size(text(value))
    if size >= SMALLEST_ROOT:
        return size
    raise ValueError("a root disk has at least 1G")


def _guest_path(value: Any) -> str:
    path = text(value)
    if path.startswith("/") and _is_straight(path[1:]):
        return path
    raise ValueError(f"{shorten(path)} is not a plain absolute path")


def _local_path(value: Any) -> str:
    path = text(value)
    if _is_straight(path.removeprefix(ELSEWHERE)):
        return path
    raise ValueError(f"{shorten(path)} is not a path inside the template's directory")


def _is_straight(path: str) -> bool:
    """Whether each part of a relative path is a real step down: nothing empty, no ``.``, no ``..``."""
    return all(part not in ("", ".", "..") for part in path.split("/"))


def _local_file(value: Any) -> LocalFile:
    if not isinstance(value, dict):
        raise ValueError("expected { source = ..., mode = ... }")
    table = Table(value, "file")
    local = LocalFile(table.get("source", _local_path), table.get("mode", _mode))
    table.finish()
    return local


def _user(value: Any) -> User:
    if not isinstance(value, dict):
        raise ValueError("expected { groups = [...], sudo = true }")
    table = Table(value, "user")
    user = User(
        groups=table.optional("groups", tuple_of(_account), ()),
        shell=table.optional("shell", _guest_path, User.shell),
        sudo=table.optional("sudo", flag, False),
    )
    table.finish()
    return user
