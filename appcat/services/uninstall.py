"""``uninstall``: nothing that appcat made for this home stays behind, and nothing else goes.

What is appcat's is told by name, level by level (``Rule``); whatever else lies in its directories is kept and named.
Links are removed, never followed. The order is such that an interrupted uninstall can be run again: the home, by which
everything else is found, goes last.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from appcat.errors import AppcatError, from_os_error
from appcat.model.name import check_name
from appcat.qemu import process
from appcat.services import host_service, hosts_file, keeping
from appcat.services.context import Context
from appcat.services.delete import delete
from appcat.services.host_service import Service
from appcat.settings import Settings
from appcat.store import locks
from appcat.store.files import disk_usage, remove_tree, unlink, write_atomic
from appcat.store.layout import CREATE_PREFIX, DELETE_PREFIX, Layout, VmPaths
from appcat.switch import client as switch

ROUNDS = 5
PROGRAM = "pip uninstall appcat"
_TEMPORARY = r"\.(?:{})\.[0-9a-f]{{12}}\.tmp"


class Verdict(Enum):
    """What becomes of a path: it goes with all below it, it goes if nothing foreign is left in it, or it stays."""

    GOES = "goes"
    IF_EMPTY = "if empty"
    STAYS = "stays"


@dataclass(frozen=True)
class Rule:
    """Names (a regular expression) of what is ours in a directory; with ``below`` only what those rules say is."""

    names: str
    below: tuple[Rule, ...] = ()
    holds: Callable[[Path], bool] = os.path.lexists

    def matches(self, path: Path) -> bool:
        """Whether ``path`` is one of these, or left over from writing one."""
        known = re.fullmatch(self.names, path.name) or re.fullmatch(_TEMPORARY.format(self.names), path.name)
        return bool(known) and self.holds(path)


@dataclass(frozen=True)
class Part:
    """Something that goes: ``kind`` for people, ``size`` in bytes on disk where that says something."""

    kind: str
    what: str
    size: int | None = None


@dataclass(frozen=True)
class Plan:
    """All that would go, and what is in the way of our directories going as well."""

    parts: tuple[Part, ...]
    kept: tuple[str, ...]


def plan(ctx: Context, *, keep_cache: bool = False) -> Plan:
    """What ``uninstall`` would do now; changes nothing."""
    parts = [Part("vm", path.name, disk_usage(path)) for path in _vm_directories(ctx)]
    for service in host_service.SERVICES:
        parts += [Part(service.name, f"process {pid}") for pid in keeping.helpers(ctx, service)]
    parts += [Part("service", str(path)) for _, path in _services(ctx)]
    parts += [Part("ssh", f"the Include line in {path}") for path in _ssh_lines(ctx)]
    parts += [Part("completion", str(path)) for path in _completions(ctx)]
    if hosts_file.is_installed(ctx, hosts_file.HOSTS):
        parts.append(Part("hosts", f"the names of these vms in {hosts_file.HOSTS}"))
    kept: list[str] = []
    for kind, root, rules in _territories(ctx, keep_cache):
        verdicts = list(sort_out(root, rules))
        if os.path.lexists(root):
            size = sum(disk_usage(path) for path, verdict in verdicts if verdict is Verdict.GOES)
            parts.append(Part(kind, str(root), size))
        kept += [str(path) for path, verdict in verdicts if verdict is Verdict.STAYS]
    kinds = zip(("sockets", "memory"), _outside(ctx), strict=False)
    parts += [Part(kind, str(root)) for kind, root in kinds if os.path.lexists(root)]
    return Plan(tuple(parts), tuple(kept))


def uninstall(ctx: Context, *, keep_cache: bool = False) -> Plan:
    """Remove everything, with ``keep_cache`` all but the images; returns what was removed and what was not appcat's.

    Raises what the first vm that could not be removed raised (its files are still there then), WrongState when keeper
    or daemon do not end, Unavailable for files that may not be removed. Running it again goes on where it stopped.
    Only root may take names out of the hosts file: where there are such, that is refused before anything else is done.
    """
    doomed = plan(ctx, keep_cache=keep_cache)
    if hosts_file.is_installed(ctx, hosts_file.HOSTS):
        hosts_file.remove(ctx, hosts_file.HOSTS)
    _remove_services(ctx)
    keeping.end_all(ctx)
    _remove_vms(ctx)
    switch.end(ctx.layout)
    _remove_ssh_lines(ctx)
    for path in _completions(ctx):
        _remove_completion(path)
    kept = []
    for _, root, rules in reversed(_territories(ctx, keep_cache)):  # the home last
        if root == ctx.layout.home:
            kept += [path for root in _outside(ctx) for path in _remove_private(root)]
            keeping.end_all(ctx)  # one that somebody's command has started meanwhile
        kept += _clear(root, rules)
    return Plan(doomed.parts, tuple(kept))


# --- whose is it -----------------------------------------------------------------------------------------------------


def sort_out(directory: Path, rules: tuple[Rule, ...]) -> Iterator[tuple[Path, Verdict]]:
    """Every path that ``rules`` decide on, what is in a directory before the directory itself."""
    for path in _entries(directory):
        rule = next((rule for rule in rules if rule.matches(path)), None)
        if rule is None:
            yield path, Verdict.STAYS
        elif path.is_symlink() or not rule.below:
            yield path, Verdict.GOES
        else:
            yield from sort_out(path, rule.below)
    if directory.is_dir():
        yield directory, Verdict.IF_EMPTY


def _entries(directory: Path) -> list[Path]:
    try:
        return sorted(directory.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise from_os_error(error, f"looking into {directory}") from error


def _territories(ctx: Context, keep_cache: bool) -> list[tuple[str, Path, tuple[Rule, ...]]]:
    """Home and cache with their rules. A cache inside the home is a level of it, and has gone before the home does."""
    home = ("home", ctx.layout.home, _home_rules(ctx, keep_cache))
    return [home] if keep_cache else [home, ("cache", ctx.settings.cache, _cache_rules())]


def _home_rules(ctx: Context, keep_cache: bool) -> tuple[Rule, ...]:
    """Every name that the layout knows in a home, so that a new one needs no mention here."""
    layout, home = ctx.layout, ctx.layout.home
    known = [getattr(layout, key) for key, value in vars(Layout).items() if isinstance(value, property)]
    files = {path.name for path in known if isinstance(path, Path) and path.parent == home} - {
        layout.vms.name,
        layout.remotes.name,
    }
    key = re.escape(layout.user_key.name)
    rules = [
        Rule("|".join(rf"{re.escape(name)}(?:\.1)?" for name in sorted(files))),
        Rule(layout.vms.name, (Rule(".*", holds=_is_vm),)),
        Rule(layout.remotes.name, (Rule(r"[0-9a-f]{16}", (Rule(rf"{key}|token|.*\.known_hosts"),)),)),
        Rule(layout.user_key.parent.name, (Rule(rf"{key}|{key}\.pub|\.lock"),)),
        Rule(layout.layers.relative_to(home).parts[0]),
    ]
    if ctx.settings.cache.parent == home and not keep_cache:
        rules.append(Rule(re.escape(ctx.settings.cache.name), _cache_rules()))
    return tuple(rules)


def _cache_rules() -> tuple[Rule, ...]:
    """The cache may be one that several homes share, or a directory with other things in it."""
    images = (Rule(r"[0-9a-f]{64}|recipes|staging"),)
    packages = (Rule(r"archives|cache|incoming|updated|lists|status(?:-old)?|lock|apt\.conf"),)
    return Rule(r"(?:probe|switch)\.json(?:\.lock)?"), Rule("images", images), Rule("packages", packages)


def _is_vm(path: Path) -> bool:
    """Whether a directory among the vms is one: something in it, or nothing at all, says so."""
    if path.is_symlink():
        return path.is_dir() and _has_vm_files(path)
    return path.is_dir() and (path.name.startswith((CREATE_PREFIX, DELETE_PREFIX)) or _has_vm_files(path))


def _has_vm_files(path: Path) -> bool:
    paths = VmPaths(path)
    known = {getattr(paths, key).name for key, value in vars(VmPaths).items() if isinstance(value, property)}
    names = {entry.name for entry in _entries(path)}
    return not names or bool(names & known)


def _vm_directories(ctx: Context) -> list[Path]:
    entries = [] if ctx.layout.vms.is_symlink() else _entries(ctx.layout.vms)
    return [path for path in entries if _is_vm(path) and not path.name.startswith(".")]


# --- processes -------------------------------------------------------------------------------------------------------


def _remove_vms(ctx: Context) -> None:
    """Every vm, however it is; the first failure is raised when all have been tried."""
    failures: list[AppcatError] = []
    for _ in range(ROUNDS):  # somebody may create one at the same time
        doomed = _vm_directories(ctx)
        if not doomed or failures:
            break
        for path in doomed:
            ctx.progress(f"removing {path.name}", 0, 0)
            try:
                _remove_vm(ctx, path)
            except AppcatError as error:
                failures.append(error)
    if failures:
        raise failures[0]


def _remove_vm(ctx: Context, path: Path) -> None:
    if _is_name(path.name) and not path.is_symlink():
        delete(ctx, path.name, force=True)
        return
    lock = VmPaths(path).run_lock
    if locks.is_held(lock) and (pid := process.find_holder(lock)) is not None:
        process.kill(pid, functools.partial(process.holds, lock=lock))
    _remove(path)


def _is_name(name: str) -> bool:
    try:
        return check_name(name) == name
    except AppcatError:
        return False


# --- what lies outside our directories -------------------------------------------------------------------------------


def _services(ctx: Context) -> list[tuple[Service, Path]]:
    """The services' files that are this home's."""
    return [found for service in host_service.SERVICES for found in _service(ctx, service)]


def _service(ctx: Context, service: Service) -> list[tuple[Service, Path]]:
    try:
        path = host_service.service_file(service)
    except AppcatError:
        return []
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return []
    home = str(ctx.layout.home)
    if "APPCAT_HOME" not in text:
        ours = _is_default_home(ctx)
    else:
        ours = f'APPCAT_HOME={home.replace("%", "%%")}"' in text or f"<string>{home}</string>" in text
    return [(service, path)] if ours else []


def _remove_services(ctx: Context) -> None:
    """Where the service manager refuses (no session, for one) the files go all the same: it will not find them."""
    for service, path in _services(ctx):
        try:
            host_service.uninstall(service)
        except AppcatError:
            for wanted in path.parent.glob(f"*.wants/{path.name}"):
                _unlink(wanted)
            _unlink(path)


def _ssh_lines(ctx: Context) -> list[Path]:
    from appcat.services import ssh_config

    path = ssh_config.default_config()
    try:
        lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []
    return [path] if ssh_config.include_line(ctx) in lines else []


def _remove_ssh_lines(ctx: Context) -> None:
    from appcat.services import ssh_config

    if _ssh_lines(ctx):
        ssh_config.uninstall(ctx)


def _completions(ctx: Context) -> list[Path]:
    """Completion files of the program; they stay while another, the default home is in use."""
    if not _is_default_home(ctx) and _default_home().is_dir():
        return []
    home = Path.home()
    data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    places = [
        home / ".bash_completions" / "appcat.sh",
        data / "bash-completion" / "completions" / "appcat",
        home / ".zfunc" / "_appcat",
        data / "zsh" / "site-functions" / "_appcat",
        config / "fish" / "completions" / "appcat.fish",
    ]
    return [path for path in places if _says_appcat(path)]


def _says_appcat(path: Path) -> bool:
    try:
        return "appcat" in path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def _remove_completion(path: Path) -> None:
    """The file, and the line in ``.bashrc`` that reads it."""
    bashrc = Path.home() / ".bashrc"
    with contextlib.suppress(OSError):
        text = bashrc.read_bytes()
        sources = {f"source '{path}'".encode(), f"source {path}".encode()}
        kept = b"".join(line for line in text.splitlines(keepends=True) if line.strip() not in sources)
        if kept != text:
            target = bashrc.resolve()
            write_atomic(target, kept, stat.S_IMODE(target.stat().st_mode))
    _unlink(path)


def _default_home() -> Path:
    return Settings.load({key: value for key, value in os.environ.items() if not key.startswith("APPCAT_")}).home


def _is_default_home(ctx: Context) -> bool:
    try:
        return _default_home().resolve() == ctx.layout.home.resolve()
    except (AppcatError, OSError):
        return False


# --- removing --------------------------------------------------------------------------------------------------------


def _clear(root: Path, rules: tuple[Rule, ...]) -> list[str]:
    """Remove what is ours in ``root``, and it when that leaves it empty; returns what stays."""
    kept = []
    for path, verdict in list(sort_out(root, rules)):
        if verdict is Verdict.STAYS:
            kept.append(str(path))
        elif verdict is Verdict.GOES:
            _remove(path)
        else:
            _remove_empty(path)
    return kept


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        remove_tree(path)
    else:
        _unlink(path)


def _remove_empty(path: Path) -> None:
    """A directory that has nothing left in it; the link that leads to it as well."""
    with contextlib.suppress(OSError):
        path.resolve().rmdir()
        if path.is_symlink():
            path.unlink()


def _unlink(path: Path) -> None:
    try:
        unlink(path)
    except OSError as error:
        raise from_os_error(error, f"removing {path}") from error


def _outside(ctx: Context) -> list[Path]:
    """What is below directories that everybody may write to: sockets, and frozen memory."""
    return [path for path in (ctx.settings.runtime, ctx.settings.memory) if path is not None]


def _remove_private(path: Path) -> list[str]:
    """Such a directory, unless somebody else prepared it; returns what stays."""
    for level in (path.parent, path):
        try:
            found = level.lstat()
        except FileNotFoundError:
            return []
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            return [str(level)]
    remove_tree(path)
    if path.parent.name == f"appcat-{os.getuid()}":
        with contextlib.suppress(OSError):  # other homes have theirs there
            path.parent.rmdir()
    return []
