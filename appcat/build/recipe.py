"""A recipe on disk: reading it with what it is based on and the files it names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appcat.build.catalog import GUEST_DIRECTORY, GUEST_PROGRAM, RECIPE, template_names
from appcat.errors import InvalidInput, NotFound, from_os_error
from appcat.model.image import Root
from appcat.model.name import suggestion
from appcat.model.template import (
    ELSEWHERE,
    Kernel,
    Recipe,
    base_of,
    inherit,
    localized,
    parse_recipe,
    read_recipe_text,
)
from appcat.model.vm import Arch


@dataclass(frozen=True)
class Source:
    """A recipe for one architecture with the content of its files (by their name in the recipe).

    ``data`` is what it says, with what it inherits from ``base``. ``common`` is the directory of what all templates
    share.
    """

    recipe: Recipe
    arch: Arch
    data: Mapping[str, Any]
    files: Mapping[str, bytes]
    common: Path
    base: Source | None = None

    @property
    def kernel(self) -> Kernel:
        """The kernel for this architecture."""
        return self.recipe.kernels[self.arch]

    @property
    def guest_program(self) -> Path:
        """The source of appcat's program in the guest."""
        return self.common / GUEST_PROGRAM

    @property
    def commands(self) -> tuple[str, ...]:
        """The commands that are this recipe's own: those of its base were run there."""
        below = self.base.recipe.commands if self.base else ()
        return self.recipe.commands[len(below) :]


def read_recipe(directory: Path, templates: Path, arch: Arch) -> Source:
    """The recipe in ``directory``; ``templates`` has those it may be based on, and what all share.

    Raises NotFound, InvalidInput (also for a file outside the directory or an architecture it has no kernel for).
    """
    return _read(directory, templates, arch, ())


def _read(directory: Path, templates: Path, arch: Arch, above: tuple[Path, ...]) -> Source:
    """``above`` are the recipes that are based on this one."""
    where = f"{directory.name}/{RECIPE}"
    data = read_recipe_text(_read_text(directory, templates), where)
    base = None
    if name := base_of(data, where):
        base = _read_base(templates / name, templates, arch, (*above, directory))
        data = inherit(data, localized(base.data, name))
    recipe = parse_recipe(data, where)
    if arch not in recipe.kernels:
        raise InvalidInput(f"template {recipe.name} has no kernel for {arch}", code="invalid-recipe")
    files = {local.source: _read_file(directory, templates, local.source) for local in recipe.files.values()}
    return Source(recipe, arch, data, files, templates / GUEST_DIRECTORY, base)


def _read_base(directory: Path, templates: Path, arch: Arch, above: tuple[Path, ...]) -> Source:
    where = f"{above[-1].name}/{RECIPE}"
    if directory.resolve() in [path.resolve() for path in above]:
        raise InvalidInput(f"{where}: base: {directory.name} is based on this template itself", code="invalid-recipe")
    base = _read(directory, templates, arch, above)
    if base.recipe.root is not Root.DISK:
        raise InvalidInput(
            f"{where}: base: {directory.name} has its root in memory: there is nothing to install on",
            hint="base it on debian, or copy the recipe",
            code="invalid-recipe",
        )
    return base


def _read_text(directory: Path, templates: Path) -> str:
    try:
        return (directory / RECIPE).read_text()
    except FileNotFoundError as error:
        names = template_names(templates)
        hint = suggestion(directory.name, names) or f"templates: {', '.join(names)}"
        raise NotFound(f"there is no template {directory.name}", hint=hint) from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{directory.name}/{RECIPE} is not UTF-8 text", code="invalid-recipe") from error
    except OSError as error:
        raise from_os_error(error, "reading a template") from error


def _read_file(directory: Path, templates: Path, source: str) -> bytes:
    """A file of the template's own directory, or of another template's (``@NAME/FILE``)."""
    if source.startswith(ELSEWHERE):
        name, _, source = source.removeprefix(ELSEWHERE).partition("/")
        directory = templates / name
    path = directory / source
    if not path.resolve().is_relative_to(directory.resolve()):
        raise InvalidInput(f"{source} leads out of the template's directory", code="invalid-recipe")
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InvalidInput(f"{source} is not in the template's directory", code="invalid-recipe") from error
    except OSError as error:
        raise from_os_error(error, "reading a template") from error
