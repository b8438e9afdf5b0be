"""``hosts``: names of vms for the host's own hosts file, so that every program of this computer knows them.

Between markers that carry the home, so that several homes and users can have theirs in one file; all else in it stays
as it is, to the byte. Names that somebody else has given already are left alone.
"""

from __future__ import annotations

import contextlib
import glob
import os
import re
import shlex
import stat
import sys
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from appcat.errors import AppcatError, Conflict, InvalidInput, from_os_error
from appcat.model.network import DOMAIN
from appcat.services.context import Context
from appcat.store import locks
from appcat.store.files import rewrite

HOSTS = Path("/etc/hosts")
LOCK_PATIENCE = 30.0
MARK = "# appcat"


@dataclass(frozen=True)
class Entry:
    """One line: an address and the names that lead to it."""

    address: str
    names: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join((self.address, *self.names))


@dataclass(frozen=True)
class Taken:
    """A name that the file gives to another address already, and so was left out."""

    name: str
    address: str


@dataclass(frozen=True)
class Installed:
    """What ``install`` did."""

    changed: bool
    entries: tuple[Entry, ...]
    taken: tuple[Taken, ...]


def entries(ctx: Context) -> tuple[Entry, ...]:
    """A line for every vm that has an address of its own, by name; broken ones are left out."""
    found = []
    for name in ctx.store.names():
        with contextlib.suppress(AppcatError):
            if address := ctx.store.load(name).address:
                found.append(Entry(address, (name, f"{name}.{DOMAIN}")))
    return tuple(found)


def install(ctx: Context, path: Path = HOSTS) -> Installed:
    """Have the hosts file know the vms of this home, and no other names of it.

    Raises Conflict when its markers are damaged, InvalidInput for what is no file, Unavailable.
    """
    with _held(ctx, path, "install"):
        before = _read(path)
        after, done = _with_entries(ctx, before, path)
        if done.changed:
            rewrite(path, after)
        return done


def _with_entries(ctx: Context, before: bytes, path: Path) -> tuple[bytes, Installed]:
    """The file with the names of this home as they are now."""
    section = Section.find(before, ctx.layout.home, path)
    theirs = names_of(section.before + section.after)
    wanted = entries(ctx)
    kept = [Entry(entry.address, tuple(name for name in entry.names if name not in theirs)) for entry in wanted]
    kept = [entry for entry in kept if entry.names]
    after = section.filled([str(entry) for entry in kept])
    names = (name for entry in wanted for name in entry.names)
    taken = tuple(Taken(name, theirs[name]) for name in names if name in theirs)
    return after, Installed(after != before, tuple(kept), taken)


def remove(ctx: Context, path: Path = HOSTS) -> bool:
    """Take the names of this home out again; False when there are none. Raises as ``install``."""
    with _held(ctx, path, "remove"):
        before = _read(path)
        after = Section.find(before, ctx.layout.home, path).filled([])
        if after != before:
            rewrite(path, after)
        return after != before


def is_installed(ctx: Context, path: Path = HOSTS) -> bool:
    """Whether the file has names of this home; one that cannot be read has none."""
    with contextlib.suppress(AppcatError, OSError):
        return bool(Section.find(path.read_bytes(), ctx.layout.home, path).lines)
    return False


def is_current(ctx: Context, path: Path = HOSTS) -> bool:
    """Whether ``install`` would find nothing to do; raises as it does, but for what this user may not change."""
    return not _with_entries(ctx, _read(path), path)[1].changed


def sudo_line(ctx: Context, action: str, path: Path = HOSTS) -> str:
    """What does as root, with ``sudo``, what this user may not do."""
    words = ["sudo", "env", f"APPCAT_HOME={ctx.layout.home}", sys.executable, "-P", "-m", "appcat", "hosts", action]
    return shlex.join([*words, *([] if path == HOSTS else ["--file", str(path.absolute())])])


@dataclass(frozen=True)
class Section:
    """A hosts file taken apart: what is before and after the lines of a home, and those, markers included."""

    before: bytes
    lines: tuple[bytes, ...]
    after: bytes
    home: Path

    @classmethod
    def find(cls, content: bytes, home: Path, path: Path) -> Section:
        """Where the lines of ``home`` are; none, at the end, when there are none yet. Raises Conflict."""
        begin, end = markers(home)
        lines = content.splitlines(keepends=True)
        marks = [(number, line.strip()) for number, line in enumerate(lines) if line.strip() in (begin, end)]
        if not marks:
            return cls(content, (), b"", home)
        if [mark for _, mark in marks] != [begin, end]:
            raise Conflict(
                f"the lines of appcat in {path} are damaged: not one '{begin.decode()}' and one '{end.decode()}'",
                hint="put that right by hand, then try again",
                code="hosts-damaged",
            )
        (first, _), (last, _) = marks
        return cls(b"".join(lines[:first]), tuple(lines[first : last + 1]), b"".join(lines[last + 1 :]), home)

    def filled(self, texts: Sequence[str]) -> bytes:
        """The file with ``texts`` as the lines of the home; without any trace of it when there are none.

        A file that does not end with a line's end does not afterwards either, and is again what it was in the end.
        """
        had, open_end = bool(self.lines), not (self.after or self.before.endswith(b"\n") or not self.before)
        if had:
            open_end = not self.lines[-1].endswith((b"\n", b"\r"))
        if not texts:
            return (self.before.removesuffix(b"\n") if had and open_end else self.before) + self.after
        begin, end = markers(self.home)
        section = b"\n".join([begin, *(text.encode() for text in texts), end])
        between = b"\n" if open_end and not had else b""
        return self.before + between + section + (b"" if open_end else b"\n") + self.after


def markers(home: Path) -> tuple[bytes, bytes]:
    """The lines that the lines of a home stand between."""
    name = urllib.parse.quote(os.fsencode(home))
    return f"{MARK} begin {name}".encode(), f"{MARK} end {name}".encode()


def names_of(content: bytes) -> Mapping[str, str]:
    """The names that a hosts file knows, in lower case, with the first address of each."""
    found: dict[str, str] = {}
    for line in content.decode("utf-8", "replace").splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        for name in names:
            found.setdefault(name.lower(), address)
    return found


def _read(path: Path) -> bytes:
    try:
        if path.exists() and not stat.S_ISREG(path.stat().st_mode):
            raise _no_file(path)
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise from_os_error(error, f"reading {path}") from error


@contextlib.contextmanager
def _held(ctx: Context, path: Path, action: str) -> Iterator[None]:
    """No other appcat changes the file in the block: the directory that it is in is locked.

    What this user may not do is told with the line that root would do it with.
    """
    try:
        with _locked(path):
            yield
    except AppcatError as error:
        if error.code == "not-permitted":
            error.hint = f"let root do it: {sudo_line(ctx, action, path)}"
        raise


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    try:
        directory = path.resolve().parent
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except RuntimeError as error:  # links that lead to each other
        raise _no_file(path) from error
    except OSError as error:
        raise from_os_error(error, f"looking for {path}") from error
    try:
        if not locks.lock_within(descriptor, LOCK_PATIENCE):
            raise Conflict(f"another program keeps {directory} locked", hint="try again later", code="busy")
        for left in directory.glob(f".{glob.escape(path.resolve().name)}.*.tmp"):  # by one that was killed
            if re.fullmatch(r"[0-9a-f]{12}", left.name.split(".")[-2]):
                with contextlib.suppress(OSError):
                    left.unlink()
        yield
    finally:
        os.close(descriptor)


def _no_file(path: Path) -> InvalidInput:
    return InvalidInput(f"{path} is not a file", hint="give the path of a hosts file", code="invalid-hosts-file")
