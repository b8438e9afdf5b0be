"""Which templates there are, and the number that says whether one has changed. Next to nothing is parsed for either."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from appcat.errors import from_os_error
from appcat.model.vm import Arch

RECIPE = "template.toml"
# What all templates share: the guest program, and files that any may take.
GUEST_DIRECTORY = "guest"
GUEST_PROGRAM = "appcat-guest.c"
# Counts up when the builder itself would make another image of the same recipe.
BUILDER = 2
_BASE = re.compile(rb'^base *= *"([^"/]+)"', re.MULTILINE)


def template_names(templates: Path) -> list[str]:
    """The templates that there are, whether their recipes are right or not."""
    return sorted(path.parent.name for path in templates.glob(f"*/{RECIPE}"))


def fingerprint(directory: Path, templates: Path, arch: Arch) -> str:
    """Changes when anything changes that appcat puts into an image of the template in ``directory``.

    Packages' versions are not part of it. ``templates`` has what all templates share, and those that others are based
    on. Raises Unavailable when a file cannot be read.
    """
    digest = hashlib.sha256(f"{BUILDER} {arch}\n".encode())
    try:
        for place in (*_line(directory, templates), templates / GUEST_DIRECTORY):
            for path in sorted(path for path in place.rglob("*") if path.is_file()):
                data = path.read_bytes()
                digest.update(f"{place.name}/{path.relative_to(place)} {len(data)}\n".encode() + data)
    except OSError as error:
        raise from_os_error(error, "reading a template") from error
    return digest.hexdigest()


def _line(directory: Path, templates: Path) -> Iterator[Path]:
    """The template's directory, and those of all that it is based on."""
    seen: set[Path] = set()
    while directory not in seen:
        seen.add(directory)
        yield directory
        found = _BASE.search((directory / RECIPE).read_bytes())
        if not found:
            return
        directory = templates / found[1].decode(errors="replace")
