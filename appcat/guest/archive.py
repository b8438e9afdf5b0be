"""Files as a tar stream, both ways. What a guest sends is not trusted.

Out: the GNU format, which every ``tar`` in a guest reads, busybox's included. In: only directories, regular files,
symbolic and hard links are made, below one directory; no name leaves it, no link in it is followed, nobody's ownership
and no set-user-ID bit is taken over, and a file appears under its name when it is whole.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tarfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, BinaryIO, cast

from appcat.errors import GuestError

CHUNK = 1 << 16
BLOCK = tarfile.BLOCKSIZE
LONGEST_NAME = 1 << 16
LARGEST_FILE = 1 << 62
LATEST = 1 << 40
REPORT_EVERY = 0.1
SKIPPED = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
# What is wrong with one file and says nothing about the next.
_ONE_FILE = frozenset(
    {
        errno.EACCES,
        errno.EEXIST,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.ENOTEMPTY,
        errno.EPERM,
        errno.EMLINK,
    }
)

_HINT = "the guest's tar is not what it should be: trust nothing that comes out of this guest"

Names = tuple[str, ...]


class UnsafeArchive(GuestError):
    """What the guest sent is no archive of files, or wants to be written elsewhere."""

    code = "unsafe-archive"


class CutOff(UnsafeArchive):
    """The stream ended before the archive did."""


class Stopped(Exception):
    """Nobody wants the rest."""


@dataclass
class Tally:
    """What a transfer has done so far; ``report`` is told of ``total`` bytes now and then."""

    report: Callable[[int, int], None] = lambda _done, _total: None
    total: int = 0
    files: int = 0
    bytes: int = 0
    skipped: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)
    _reported: float = 0.0

    def count(self, size: int) -> None:
        """So many bytes more; raises Stopped."""
        if self.stopped.is_set():
            raise Stopped
        self.bytes += size
        if time.monotonic() - self._reported >= REPORT_EVERY:
            self._reported = time.monotonic()
            self.report(min(self.bytes, self.total), self.total)

    def fail(self, name: str, error: OSError) -> None:
        """One file could not be copied; raises ``error`` when the next cannot either."""
        if error.errno not in _ONE_FILE:
            raise error
        self.failed.append(f"{shown(name)}: {error.strerror}")


def shown(name: str) -> str:
    """A file name as it can be printed."""
    return "".join(character if character.isprintable() else "?" for character in name)


def pack(target: BinaryIO, sources: Iterable[tuple[Path, str]], tally: Tally) -> None:
    """Write each source with all that is in it under its new name; the contents alone where that is empty.

    Raises OSError, Stopped. What cannot be read, and what is no file, is noted in ``tally``.
    """
    with tarfile.open(
        fileobj=target, mode="w|", format=tarfile.GNU_FORMAT, encoding="utf-8", errors="surrogateescape"
    ) as archive:
        for path, name in sources:
            _pack(archive, path, name, tally)


def _pack(archive: tarfile.TarFile, path: Path, name: str, tally: Tally) -> None:
    try:
        found = path.lstat() if name else path.stat()
        if stat.S_ISDIR(found.st_mode):
            _pack_directory(archive, path, name, tally)
        elif stat.S_ISREG(found.st_mode):
            _pack_file(archive, path, name, tally)
        elif stat.S_ISLNK(found.st_mode):
            archive.addfile(_anonymous(archive.gettarinfo(path, name)))
            tally.files += 1
        else:
            tally.skipped.append(f"{shown(str(path))} is {SKIPPED.get(stat.S_IFMT(found.st_mode), 'no file')}")
    except BrokenPipeError:
        raise
    except OSError as error:
        tally.fail(str(path), error)


def _pack_directory(archive: tarfile.TarFile, path: Path, name: str, tally: Tally) -> None:
    with os.scandir(path) as entries:
        children = sorted(entry.name for entry in entries)
    info = _anonymous(archive.gettarinfo(path, name)) if name else None
    if info:
        mode, info.mode = info.mode, info.mode | 0o700  # first so that it can be filled
        archive.addfile(info)
    for child in children:
        _pack(archive, path / child, f"{name}/{child}" if name else child, tally)
    if info:  # then as it is, time included
        info.mode = mode
        archive.addfile(info)


def _pack_file(archive: tarfile.TarFile, path: Path, name: str, tally: Tally) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        info = _anonymous(archive.gettarinfo(arcname=name, fileobj=file))
        # The link itself, where the same file has been packed before, has no contents.
        archive.addfile(info, cast("IO[bytes]", _Steady(file, str(path), tally)) if info.isreg() else None)
    tally.files += 1


def _anonymous(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    return info


class _Steady:
    """A file that stays as long as it was promised to be: one cut short meanwhile ends in zeros."""

    def __init__(self, file: BinaryIO, name: str, tally: Tally) -> None:
        self._file, self._name, self._tally = file, name, tally
        self._short = False

    def read(self, size: int = -1) -> bytes:
        """Exactly ``size`` bytes."""
        data = self._file.read(size)
        self._tally.count(size)
        if len(data) < size and not self._short:
            self._short = True
            self._tally.failed.append(f"{shown(self._name)}: became shorter while it was read")
        return data.ljust(size, b"\0")


@dataclass
class Member:
    """One thing in an archive; a regular file's contents have to be read before the next member."""

    info: tarfile.TarInfo
    contents: Iterator[bytes]


def members(stream: BinaryIO) -> Iterator[Member]:
    """What is in a tar stream (ustar, GNU, pax) up to its end mark; raises UnsafeArchive.

    Not ``tarfile``'s own reader: that one holds headers of any size in memory.
    """
    extra: dict[str, str] = {}
    while any(block := _exactly(stream, BLOCK)):
        info = _header(block)
        if info.type in (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK):
            text = _small(stream, info).partition(b"\0")[0].decode("utf-8", "surrogateescape")
            extra["path" if info.type == tarfile.GNUTYPE_LONGNAME else "linkpath"] = text
        elif info.type in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
            extra |= _pax(_small(stream, info))
        elif info.type == tarfile.XGLTYPE:
            _small(stream, info)
        else:
            info = _completed(info, extra)
            extra = {}
            contents = _contents(stream, 0 if info.issym() or info.islnk() or info.isdir() else info.size)
            yield Member(info, contents)
            for _ in contents:
                pass


def _header(block: bytes) -> tarfile.TarInfo:
    try:
        info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.HeaderError, ValueError, OverflowError) as error:
        raise UnsafeArchive(f"the guest sent something that is no tar archive: {error}", hint=_HINT) from error
    return _checked(info)


def _completed(info: tarfile.TarInfo, extra: dict[str, str]) -> tarfile.TarInfo:
    info.name = extra.get("path", info.name)
    info.linkname = extra.get("linkpath", info.linkname)
    if "size" in extra:
        info.size = int(extra["size"])
    return _checked(info)


def _checked(info: tarfile.TarInfo) -> tarfile.TarInfo:
    if not 0 <= info.size <= LARGEST_FILE or "\0" in info.name + info.linkname:
        raise UnsafeArchive(f"the guest sent an impossible file: {shown(info.name)}", hint=_HINT)
    return info


def _pax(data: bytes) -> dict[str, str]:
    """The records of a pax header that matter here."""
    found: dict[str, str] = {}
    while data:
        length, _, rest = data.partition(b" ")
        if not length.isdigit() or len(length) > 6 or not len(length) + 1 < int(length) <= len(data):
            raise UnsafeArchive("the guest sent a damaged pax header", hint=_HINT)
        key, _, value = rest[: int(length) - len(length) - 2].partition(b"=")
        name, data = key.decode(errors="replace"), data[int(length) :]
        if name.startswith("GNU.sparse") or (name == "size" and not (value.isdigit() and len(value) < 20)):
            raise UnsafeArchive(f"the guest sent a pax header that is not understood: {shown(name)}", hint=_HINT)
        if name in ("path", "linkpath", "size"):
            found[name] = value.decode("utf-8", "surrogateescape")
    return found


def _small(stream: BinaryIO, info: tarfile.TarInfo) -> bytes:
    if info.size > LONGEST_NAME:
        raise UnsafeArchive("the guest sent an endless name", hint=_HINT)
    return b"".join(_contents(stream, info.size))


def _contents(stream: BinaryIO, size: int) -> Iterator[bytes]:
    left = size
    while left:
        data = _exactly(stream, min(left, CHUNK))
        left -= len(data)
        yield data
    _exactly(stream, -size % BLOCK)


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise CutOff("the guest's archive ended in its middle", hint="was the vm stopped, or is its disk damaged?")
    return data


@dataclass
class Unpacker:
    """Puts members below ``root``: ``name`` takes the place of their first name ``base``; without one, it goes before.

    An empty ``name`` without ``base`` puts them right into ``root``.
    """

    root: Path
    base: str
    name: str
    tally: Tally
    _files: set[Names] = field(default_factory=set)
    _directories: dict[Names, tarfile.TarInfo] = field(default_factory=dict)

    def unpack(self, stream: BinaryIO) -> None:
        """Until the archive's end; raises UnsafeArchive, OSError, Stopped. One file's trouble is noted in ``tally``."""
        try:
            for member in members(stream):
                target = self._place(member.info.name)
                try:
                    self._make(target, member)
                except OSError as error:
                    self.tally.fail("/".join(target), error)
        finally:
            self._finish_directories()
        while stream.read(CHUNK):
            pass

    def _place(self, name: str) -> Names:
        parts = tuple(part for part in name.split("/") if part not in ("", "."))
        if name.startswith("/") or ".." in parts or (self.base and parts[:1] != (self.base,)):
            raise UnsafeArchive(f"the guest wants to write outside of the target: {shown(name)}", hint=_HINT)
        parts = parts[1:] if self.base else parts
        return (self.name, *parts) if self.name else parts

    def _make(self, target: Names, member: Member) -> None:
        info = member.info
        if not target:
            return
        if info.isdir():
            self._make_directory(target, info)
        elif info.isreg() and info.type != tarfile.GNUTYPE_SPARSE:
            self._make_file(target, member)
        elif info.issym():
            with self._beside(target) as (parent, beside):
                os.symlink(info.linkname, beside, dir_fd=parent)
                os.utime(beside, (_moment(info), _moment(info)), dir_fd=parent, follow_symlinks=False)
            self._files.discard(target)
        elif info.islnk():
            self._make_link(target, info)
        elif info.isfifo() or info.ischr() or info.isblk():
            self.tally.skipped.append(f"{shown(info.name)} is {'a pipe' if info.isfifo() else 'a device'}")
            return
        else:
            raise UnsafeArchive(f"the guest sent something that is no file: {shown(info.name)}", hint=_HINT)
        self.tally.files += not info.isdir()

    def _make_directory(self, target: Names, info: tarfile.TarInfo) -> None:
        with self._parent(target) as parent:
            try:
                os.mkdir(target[-1], 0o700, dir_fd=parent)
            except FileExistsError:
                os.close(_open_directory(target[-1], parent))
                if target not in self._directories:  # it was here before, and stays as it is
                    return
        self._directories[target] = info

    def _make_file(self, target: Names, member: Member) -> None:
        with self._beside(target) as (parent, beside):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with os.fdopen(os.open(beside, flags, 0o600, dir_fd=parent), "wb", buffering=0) as file:
                for data in member.contents:
                    self.tally.count(len(data))
                    left = memoryview(data)
                    while left:
                        left = left[file.write(left) :]
                _adopt(file.fileno(), member.info)
        self._files.add(target)

    def _make_link(self, target: Names, info: tarfile.TarInfo) -> None:
        """Only to a file that came in this stream: any other may be somebody's."""
        source = self._place(info.linkname)
        if source not in self._files:
            raise FileNotFoundError(errno.ENOENT, f"is a link to {shown(info.linkname)}, which was not copied")
        if source == target:
            return
        with self._parent(source) as there, self._beside(target) as (parent, beside):
            os.link(source[-1], beside, src_dir_fd=there, dst_dir_fd=parent, follow_symlinks=False)
        self._files.add(target)

    @contextlib.contextmanager
    def _beside(self, target: Names) -> Iterator[tuple[int, str]]:
        """The parent's descriptor and another name in it, which becomes the right one when the block succeeds."""
        beside = f".appcat-cp-{os.urandom(6).hex()}"
        with self._parent(target) as parent:
            try:
                yield parent, beside
                os.rename(beside, target[-1], src_dir_fd=parent, dst_dir_fd=parent)
            finally:  # a rename of two links to the same file does nothing, and leaves both
                with contextlib.suppress(OSError):
                    os.unlink(beside, dir_fd=parent)

    @contextlib.contextmanager
    def _parent(self, target: Names) -> Iterator[int]:
        descriptor = self._open(target[:-1])
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _open(self, directory: Names) -> int:
        """The directory, on the way to which no link is followed."""
        descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        for part in directory:
            try:
                inner = _open_directory(part, descriptor)
            finally:
                os.close(descriptor)
            descriptor = inner
        return descriptor

    def _finish_directories(self) -> None:
        """Modes and times, when nothing more is written into them; the innermost first."""
        for target, info in reversed(self._directories.items()):
            with contextlib.suppress(OSError):
                descriptor = self._open(target)
                try:
                    _adopt(descriptor, info)
                finally:
                    os.close(descriptor)


def _open_directory(name: str, parent: int) -> int:
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)


def _adopt(descriptor: int, info: tarfile.TarInfo) -> None:
    os.fchmod(descriptor, info.mode & 0o777)
    os.utime(descriptor, (_moment(info), _moment(info)))


def _moment(info: tarfile.TarInfo) -> float:
    return min(max(info.mtime, 0), LATEST)


def total_size(paths: Sequence[Path]) -> int:
    """Bytes of all regular files at and below these; what cannot be looked at counts nothing."""
    total, left = 0, list(paths)
    while left:
        path = left.pop()
        with contextlib.suppress(OSError):
            found = path.lstat()
            if stat.S_ISDIR(found.st_mode):
                left += path.iterdir()
            elif stat.S_ISREG(found.st_mode):
                total += found.st_size
    return total
