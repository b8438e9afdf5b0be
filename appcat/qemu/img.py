"""Disk images, through ``qemu-img``."""

from __future__ import annotations

from pathlib import Path

from appcat import command
from appcat.errors import CommandError, InsufficientSpace


def create(path: Path, size: int) -> None:
    """Make an empty qcow2 of ``size`` bytes; raises MissingTool, CommandError, InsufficientSpace."""
    options = "compat=1.1,lazy_refcounts=on"
    try:
        command.run(["qemu-img", "create", "-q", "-f", "qcow2", "-o", options, path, str(size)])
    except CommandError as error:
        if "No space left" in error.details:
            raise InsufficientSpace(
                f"no space left while making the disk {path.name}", hint="free some space, then try again"
            ) from error
        raise
