"""A recipe on disk: reading it with the files it names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from appcat.build.catalog import GUEST_PROGRAM, RECIPE, template_names
from appcat.errors import InvalidInput, NotFound, from_os_error
from appcat.model.name import suggestion
from appcat.model.template import Kernel, Recipe, parse_recipe
from appcat.model.vm import Arch


@dataclass(frozen=True)
class Source:
    """A recipe for one architecture with the content of its files (by their name in the recipe)."""

    recipe: Recipe
    arch: Arch
    text: str
    files: Mapping[str, bytes]
    guest_program: Path

    @property
    def kernel(self) -> Kernel:
        """The kernel for this architecture."""
        return self.recipe.kernels[self.arch]


def read_recipe(directory: Path, templates: Path, arch: Arch) -> Source:
    """The recipe in ``directory``; ``templates`` has the guest program that all templates share.

    Raises NotFound, InvalidInput (also for a file outside the directory or an architecture it has no kernel for).
    """
    try:
        text = (directory / RECIPE).read_text()
    except FileNotFoundError as error:
        names = template_names(templates)
        hint = suggestion(directory.name, names) or f"templates: {', '.join(names)}"
        raise NotFound(f"there is no template {directory.name}", hint=hint) from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{directory.name}/{RECIPE} is not UTF-8 text", code="invalid-recipe") from error
    except OSError as error:
        raise from_os_error(error, "reading a template") from error
    recipe = parse_recipe(text, f"{directory.name}/{RECIPE}")
    if arch not in recipe.kernels:
        raise InvalidInput(f"template {recipe.name} has no kernel for {arch}", code="invalid-recipe")
    files = {local.source: _read_local(directory, local.source) for local in recipe.files.values()}
    return Source(recipe, arch, text, files, templates / GUEST_PROGRAM)


def _read_local(directory: Path, source: str) -> bytes:
    path = directory / source
    if not path.resolve().is_relative_to(directory.resolve()):
        raise InvalidInput(f"{source} leads out of the template's directory", code="invalid-recipe")
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise InvalidInput(f"{source} is not in the template's directory", code="invalid-recipe") from error
    except OSError as error:
        raise from_os_error(error, "reading a template") from error
