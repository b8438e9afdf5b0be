"""Which licences a package is under, by its ``copyright`` file.

Most of Debian's are machine-readable (DEP 5, "Machine-readable debian/copyright file"): each ``License`` field begins
with a short name. What is not of that form says nothing that a program may repeat.
"""

from __future__ import annotations

import re
import tarfile
from pathlib import Path, PurePosixPath

from appcat.build.deb import open_files

_MACHINE_READABLE = re.compile(r"\A\s*Format(-Specification)?:", re.IGNORECASE)
_LICENCE = re.compile(r"^License: *(\S.*)$", re.MULTILINE)
_DOC = PurePosixPath("usr/share/doc")
_FILE = "copyright"
# Links from one package's directory to another's: nobody has longer chains.
_HOPS = 5


def declared(text: str) -> tuple[str, ...]:
    """Short names of the licences in a ``copyright`` file, each once, in order; empty where it does not say."""
    if not _MACHINE_READABLE.match(text):
        return ()
    return tuple(dict.fromkeys(" ".join(found.split()) for found in _LICENCE.findall(text)))


class Copyrights:
    """What packages say of themselves, gathered package by package; some refer to others."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._links: dict[str, str] = {}

    def read_archive(self, archive: Path) -> None:
        """Take what a .deb has below ``/usr/share/doc``; raises BuildError."""
        with open_files(archive) as files:
            for member in files:
                path = PurePosixPath(member.name.removeprefix("./"))
                if path.parent == _DOC and member.issym():
                    self._links[path.name] = PurePosixPath(member.linkname).name
                elif path.parent.parent == _DOC and path.name == _FILE:
                    self._take(path.parent.name, member, files)

    def _take(self, name: str, member: tarfile.TarInfo, files: tarfile.TarFile) -> None:
        if member.issym():
            self._links[name] = PurePosixPath(member.linkname).parent.name
        elif content := files.extractfile(member):
            self._texts[name] = content.read().decode(errors="replace")

    def read_directory(self, root: Path) -> None:
        """Take what unpacked packages have."""
        for directory in (root / _DOC).glob("*"):
            name = directory.name
            file = directory / _FILE
            if directory.is_symlink():
                self._links[name] = directory.readlink().name
            elif file.is_symlink():
                self._links[name] = file.readlink().parent.name
            elif file.is_file():
                self._texts[name] = file.read_text(errors="replace")

    def of(self, package: str) -> tuple[str, ...]:
        """The licences that the package declares."""
        for _ in range(_HOPS):
            if package in self._texts or package not in self._links:
                break
            package = self._links[package]
        return declared(self._texts.get(package, ""))
