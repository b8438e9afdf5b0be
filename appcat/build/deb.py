"""Debian's package archive: an ``ar`` file with a compressed tar inside, read here without dpkg."""

from __future__ import annotations

import copy
import gzip
import lzma
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from appcat.build.tree import merged
from appcat.checks import Check, unchecked
from appcat.errors import BuildError, from_os_error

_MAGIC = b"!<arch>\n"
_HEADER = 60
_DATA = "data.tar"


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
    if file.read(len(_MAGIC)) != _MAGIC:
        raise BuildError(f"{archive.name} is not a Debian package", hint="build again")
    while len(header := file.read(_HEADER)) == _HEADER:
        name, size = header[:16].decode().rstrip(" /"), int(header[48:58])
        if name.startswith(_DATA):
            return name
        file.seek(size + size % 2, 1)
    raise BuildError(f"{archive.name} has no files in it", hint="build again")


def _decompressed(file: IO[bytes], name: str) -> IO[bytes]:
    suffix = name.removeprefix(_DATA)
    if suffix == ".xz":
        return cast(IO[bytes], lzma.open(file))
    if suffix == ".gz":
        return cast(IO[bytes], gzip.open(file))
    if suffix == ".zst":
        import zstandard

        return cast(IO[bytes], zstandard.ZstdDecompressor().stream_reader(file))
    raise BuildError(f"a package is compressed in an unknown way ({name})", hint="report this")
