"""Kernel modules: which come along with those a recipe asks for, and in which order they must be loaded.

Debian's kernel package has no ``modules.dep``: ``depmod`` makes it at installation, out of what each module says of
itself in its ``.modinfo`` section. The same is done here for the modules that travel into the image.
"""

from __future__ import annotations

import io
import lzma
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from appcat.errors import BuildError

_SUFFIXES = (".ko", ".ko.xz", ".ko.zst")
_MAGIC_XZ, _MAGIC_ZSTD = b"\xfd7zXZ", b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True)
class Module:
    """A module's file (relative to the modules' directory, uncompressed), what it needs, the names it answers to."""

    path: str
    data: bytes
    depends: tuple[str, ...]
    aliases: tuple[str, ...]


class Modules:
    """The modules of one unpacked kernel, below ``lib/modules/VERSION``."""

    def __init__(self, directory: Path) -> None:
        self.version = directory.name
        self._directory = directory
        self._files = {_name(path): path for path in directory.rglob("*.ko*") if path.name.endswith(_SUFFIXES)}
        builtin = (directory / "modules.builtin").read_text().split()
        self._builtin = {_name(Path(line)) for line in builtin}

    def closure(self, names: Iterable[str]) -> dict[str, Module]:
        """``names`` and all they depend on, each after what it needs; built-in ones need no file.

        Raises BuildError for a name that the kernel does not have.
        """
        found: dict[str, Module] = {}
        for name in names:
            self._add(name.replace("-", "_"), found)
        return found

    def file(self, name: str) -> bytes:
        """What the kernel package says of all its modules in the file ``name``."""
        return (self._directory / name).read_bytes()

    def _add(self, name: str, found: dict[str, Module]) -> None:
        if name in found or (name in self._builtin and name not in self._files):
            return
        module = self._load(name)
        for needed in module.depends:
            self._add(needed, found)
        found[name] = module

    def _load(self, name: str) -> Module:
        if name not in self._files:
            raise BuildError(
                f"kernel {self.version} has no module {name}", hint="correct the template's kernel section"
            )
        path = self._files[name]
        data = _uncompressed(path.read_bytes())
        info = modinfo(data)
        relative = str(path.relative_to(self._directory).with_name(path.name.partition(".ko")[0] + ".ko"))
        depends = tuple(
            item.replace("-", "_") for entry in info.get("depends", ()) for item in entry.split(",") if item
        )
        return Module(relative, data, depends, tuple(info.get("alias", ())))


def modinfo(data: bytes) -> dict[str, list[str]]:
    """The ``key=value`` records of a module's ``.modinfo`` section."""
    from elftools.elf.elffile import ELFFile

    section = ELFFile(io.BytesIO(data)).get_section_by_name(".modinfo")
    info: dict[str, list[str]] = {}
    for record in section.data().split(b"\0") if section else ():
        key, equals, value = record.decode(errors="replace").partition("=")
        if equals:
            info.setdefault(key, []).append(value)
    return info


def modules_dep(modules: Mapping[str, Module]) -> str:
    """``modules.dep`` for a closure: each module's path and those it needs, the last to be loaded first."""
    return "".join(
        f"{module.path}: {' '.join(_needed(module, modules))}".rstrip() + "\n" for module in modules.values()
    )


def _needed(module: Module, modules: Mapping[str, Module]) -> list[str]:
    """Paths of all that ``module`` needs, what is needed by others last."""
    order: dict[str, None] = {}
    for name in (name for name in module.depends if name in modules):
        for path in (*reversed(_needed(modules[name], modules)), modules[name].path):
            order.setdefault(path)
    return list(reversed(order))


def modules_alias(modules: Mapping[str, Module]) -> str:
    """``modules.alias`` for a closure: by these names the kernel asks for a module (``fs-9p``)."""
    return "".join(f"alias {alias} {name}\n" for name, module in modules.items() for alias in module.aliases)


def _name(path: Path) -> str:
    return path.name.partition(".ko")[0].replace("-", "_")


def _uncompressed(data: bytes) -> bytes:
    if data.startswith(_MAGIC_XZ):
        return lzma.decompress(data)
    if data.startswith(_MAGIC_ZSTD):
        import zstandard

        return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    return data
