"""Debian's package archive: an ``ar`` file with a compressed tar inside, read here without dpkg."""

from __future__ import annotations

import copy
import gzip
import io
import lzma
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from appcat.build.tree import MERGED, merged
from appcat.checks import Check, unchecked
from appcat.errors import BuildError, from_os_error

_MAGIC = b"!<arch>\n"
_HEADER = 60
_DATA = "data.tar"
_CONTROL = "control.tar"


def unpack(archive: Path, root: Path, check: Check = unchecked) -> None:
    """Unpack the files of a .deb below ``root``, with merged /usr; raises BuildError, InsufficientSpace.

    Owners are dropped, and so are devices, set-id bits and anything that would land outside ``root``. ``check`` is
    called before each file.
    """
    try:
        with archive.open("rb") as file, _open_data(file, archive) as tar:
            for member in tar:
                check()
                if member.name.strip("./") and not member.isdev():
                    tar.extract(_tamed(member, root.resolve(), archive), root)
    except (tarfile.TarError, lzma.LZMAError, EOFError, ValueError) as error:
        raise BuildError(f"{archive.name} is damaged: {error}", hint="build again") from error
    except OSError as error:
        raise from_os_error(error, f"unpacking {archive.name}") from error


def write_plain(archive: Path, target: Path, check: Check = unchecked) -> None:
    """The same package with nothing in it compressed, for a dpkg that runs where decompressing is slow.

    Raises BuildError, InsufficientSpace.
    """
    try:
        with archive.open("rb") as file, target.open("wb") as output:
            output.write(_MAGIC)
            for name, size in _members(file, archive):
                check()
                data = file.read(size)
                for part in (_DATA, _CONTROL):
                    if name.startswith(part):
                        data, name = _stream(io.BytesIO(data), name, part).read(), part
                output.write(_header(name, len(data)) + data + b"\n" * (len(data) % 2))
    except (lzma.LZMAError, zlib.error, EOFError, ValueError) as error:
        raise BuildError(f"{archive.name} is damaged: {error}", hint="build again") from error
    except OSError as error:
        raise from_os_error(error, f"unpacking {archive.name}") from error


def add_files(archive: Path, tar: tarfile.TarFile, is_wanted: Callable[[str], bool], check: Check = unchecked) -> None:
    """Add the wanted files of a .deb to ``tar`` as they are, with their owners, but with merged /usr.

    Raises BuildError, InsufficientSpace.
    """
    try:
        with archive.open("rb") as file, _open_data(file, archive) as data:
            for member in data:
                check()
                moved = _merged_member(member)
                if moved.name and moved.name not in MERGED and (member.isdir() or is_wanted(moved.name)):
                    tar.addfile(moved, data.extractfile(member) if member.isreg() else None)
    except (tarfile.TarError, lzma.LZMAError, EOFError, ValueError) as error:
        raise BuildError(f"{archive.name} is damaged: {error}", hint="build again") from error
    except OSError as error:
        raise from_os_error(error, f"unpacking {archive.name}") from error


@contextmanager
def open_files(archive: Path) -> Iterator[tarfile.TarFile]:
    """The files of a .deb, to be read in order; raises BuildError."""
    try:
        with archive.open("rb") as file, _open_data(file, archive) as data:
            yield data
    except (tarfile.TarError, lzma.LZMAError, EOFError, ValueError) as error:
        raise BuildError(f"{archive.name} is damaged: {error}", hint="build again") from error
    except OSError as error:
        raise from_os_error(error, f"reading {archive.name}") from error


def _merged_member(member: tarfile.TarInfo) -> tarfile.TarInfo:
    moved = copy.copy(member)
    moved.name = merged(member.name)
    moved.uname = moved.gname = ""  # numbers count: the names are not known where it is unpacked
    if member.islnk():
        moved.linkname = merged(member.linkname)
    return moved


def _tamed(member: tarfile.TarInfo, root: Path, archive: Path) -> tarfile.TarInfo:
    """The member as it may be extracted. By hand: extraction filters came with Python 3.11.4, Debian 12 has 3.11.2."""
    tame = copy.copy(member)
    tame.name = merged(member.name)
    tame.mode &= 0o755
    tame.uid, tame.gid, tame.uname, tame.gname = os.getuid(), os.getgid(), "", ""
    if member.islnk():
        tame.linkname = merged(member.linkname)
    for path in (tame.name, *([tame.linkname] if member.islnk() else [])):
        if not (root / path).parent.resolve().is_relative_to(root):
            raise BuildError(f"{archive.name} has a file outside of it: {path}", hint="do not use this package")
    return tame


@contextmanager
def _open_data(file: IO[bytes], archive: Path) -> Iterator[tarfile.TarFile]:
    with _decompressed(file, _seek_data(file, archive)) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        yield tar


def _seek_data(file: IO[bytes], archive: Path) -> str:
    """Advance to the data member and return its name, which tells the compression."""
    for name, _ in _members(file, archive):
        if name.startswith(_DATA):
            return name
    raise BuildError(f"{archive.name} has no files in it", hint="build again")


def _members(file: IO[bytes], archive: Path) -> Iterator[tuple[str, int]]:
    """Name and size of each member of an ``ar`` file, the file being at its first byte."""
    if file.read(len(_MAGIC)) != _MAGIC:
        raise BuildError(f"{archive.name} is not a Debian package", hint="build again")
    while len(header := file.read(_HEADER)) == _HEADER:
        name, size = header[:16].decode().rstrip(" /"), int(header[48:58])
        after = file.tell() + size + size % 2
        yield name, size
        file.seek(after)


def _header(name: str, size: int) -> bytes:
    return f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{size:<10}`\n".encode()


def _decompressed(file: IO[bytes], name: str) -> IO[bytes]:
    return _stream(file, name, _DATA)


def _stream(file: IO[bytes], name: str, part: str) -> IO[bytes]:
    """The content of a member whose name is that of its part and a suffix for how it is compressed."""
    suffix = name.removeprefix(part)
    if suffix == "":
        return file
    if suffix == ".xz":
        return cast(IO[bytes], lzma.open(file))
    if suffix == ".gz":
        return cast(IO[bytes], gzip.open(file))
    if suffix == ".zst":
        import zstandard

        return cast(IO[bytes], zstandard.ZstdDecompressor().stream_reader(file))
    raise BuildError(f"a package is compressed in an unknown way ({name})", hint="report this")
