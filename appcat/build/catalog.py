"""Which templates there are, and the number that says whether one has changed. Nothing is parsed for either."""

from __future__ import annotations

import hashlib
from pathlib import Path

from appcat.errors import from_os_error
from appcat.model.vm import Arch

RECIPE = "template.toml"
GUEST_PROGRAM = Path("guest") / "appcat-guest.c"
# Counts up when the builder itself would make another image of the same recipe.
BUILDER = 1


def template_names(templates: Path) -> list[str]:
    """The templates that there are, whether their recipes are right or not."""
    return sorted(path.parent.name for path in templates.glob(f"*/{RECIPE}"))


def fingerprint(directory: Path, templates: Path, arch: Arch) -> str:
    """Changes when anything changes that appcat puts into an image of the template in ``directory``.

    Packages' versions are not part of it. ``templates`` has the guest program that all templates share. Raises
    Unavailable when a file cannot be read.
    """
    digest = hashlib.sha256(f"{BUILDER} {arch}\n".encode())
    try:
        files = sorted(path for path in directory.rglob("*") if path.is_file())
        for path in (*files, templates / GUEST_PROGRAM):
            data = path.read_bytes()
            digest.update(f"{path.relative_to(templates)} {len(data)}\n".encode() + data)
    except OSError as error:
        raise from_os_error(error, "reading a template") from error
    return digest.hexdigest()
