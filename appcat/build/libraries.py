"""Which shared libraries a set of programs needs, found by what their ELF headers ask for."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from pathlib import Path

from appcat.build.tree import merged
from appcat.errors import BuildError
from appcat.model.vm import Arch

_ELF = b"\x7fELF"


def triplet(arch: Arch) -> str:
    """Debian's name for the architecture in library paths."""
    return f"{arch}-linux-gnu"


def library_closure(root: Path, programs: Iterable[str], arch: Arch) -> list[str]:
    """Paths below ``root`` of the libraries and the dynamic loader that ``programs`` (paths below it too) need.

    Raises BuildError naming a library that is nowhere.
    """
    found: dict[str, None] = {}
    todo = list(programs)
    while todo:
        program = todo.pop()
        if not (root / program).is_file():
            raise BuildError(
                f"no package of the template has a file /{program}", hint="correct the template's packages"
            )
        for library in _needed(root, program, arch):
            if library not in found:
                found[library] = None
                todo.append(library)
    return sorted(found)


def _needed(root: Path, program: str, arch: Arch) -> list[str]:
    loader, names = _dynamic(root / program)
    libraries = [_find(root, name, program, arch) for name in names]
    return [*libraries, merged(loader)] if loader else libraries


def _dynamic(path: Path) -> tuple[str, list[str]]:
    """The program interpreter and the NEEDED entries of an ELF file; nothing of any other file."""
    from elftools.elf.dynamic import DynamicSegment
    from elftools.elf.elffile import ELFFile
    from elftools.elf.segments import InterpSegment

    with path.open("rb") as file:
        if file.read(len(_ELF)) != _ELF:
            return "", []
        elf = ELFFile(file)
        loader, names = "", []
        for segment in elf.iter_segments():
            if isinstance(segment, InterpSegment):
                loader = segment.get_interp_name()
            if isinstance(segment, DynamicSegment):
                names = [tag.needed for tag in segment.iter_tags("DT_NEEDED")]  # type: ignore[attr-defined]
        return loader, names


def _find(root: Path, name: str, wanted_by: str, arch: Arch) -> str:
    for directory in (f"usr/lib/{triplet(arch)}", "usr/lib"):
        candidate = posixpath.join(directory, name)
        if (root / candidate).exists():
            return candidate
    raise BuildError(
        f"/{wanted_by} needs the library {name}, which no package of the template has",
        hint="add the package that has it to the template",
    )
