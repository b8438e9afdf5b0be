"""Looking into directories."""

from __future__ import annotations

from pathlib import Path


def names_in(directory: Path) -> list[str]:
    """Names of all that is in ``directory``, hidden files included, sorted."""
    return sorted(path.name for path in directory.iterdir())
