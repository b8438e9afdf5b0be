"""Disk images, through ``qemu-img``."""

from __future__ import annotations

import os
from pathlib import Path

from appcat import command
from appcat.checks import Check, unchecked
from appcat.errors import CommandError, InsufficientSpace

IMAGE_TIMEOUT = 3600.0


def create(path: Path, size: int, backing: Path | None = None) -> None:
    """Make an empty qcow2 of ``size`` bytes, or an overlay that shows the qcow2 ``backing``, whatever has that open.

    The overlay names what it stands on relative to itself, so that a home can be moved. Raises MissingTool,
    CommandError, InsufficientSpace.
    """
    below = ["-u", "-F", "qcow2", "-b", os.path.relpath(backing, path.parent)] if backing else []
    _run("making", path, ["create", "-f", "qcow2", "-o", "compat=1.1", *below, path, str(size)])


def copy(source: Path, target: Path, check: Check = unchecked) -> None:
    """Copy what the qcow2 ``source`` shows, layers below it included, to a qcow2 of its own.

    Raises as ``create``, and what ``check`` raises meanwhile.
    """
    _run("copying", target, ["convert", "-f", "qcow2", "-O", "qcow2", "-o", "compat=1.1", source, target], check)


def compress(source: Path, target: Path, check: Check = unchecked) -> None:
    """Copy what the qcow2 ``source`` shows to a qcow2 whose clusters are compressed; raises as ``copy``."""
    options = ["-c", "-f", "qcow2", "-O", "qcow2", "-o", "compat=1.1,compression_type=zstd"]
    _run("compressing", target, ["convert", *options, source, target], check)


def merge_down_to(path: Path, bottom: Path | None, check: Check = unchecked) -> None:
    """Have the overlay ``path`` stand right on ``bottom``, or on nothing, taking in all that was between.

    Nobody may have it open. Raises as ``create``, and what ``check`` raises meanwhile: it shows the same then.
    """
    below = ["-b", os.path.relpath(bottom, path.parent), "-F", "qcow2"] if bottom else ["-b", ""]
    _run("merging", path, ["rebase", "-f", "qcow2", *below, path], check)


def resize(path: Path, size: int) -> None:
    """Make the qcow2 at ``path`` ``size`` bytes large; nobody may have it open. Raises as ``create``."""
    _run("resizing", path, ["resize", "-f", "qcow2", path, str(size)])


def _run(doing: str, path: Path, arguments: list[str | Path], check: Check = unchecked) -> None:
    verb, *rest = arguments
    try:
        command.run(["qemu-img", verb, "-q", *rest], timeout=IMAGE_TIMEOUT, check=check)
    except CommandError as error:
        if "No space left" in error.details:
            raise InsufficientSpace(
                f"no space left while {doing} the disk {path.name}", hint="free some space, then try again"
            ) from error
        raise


def allocated(path: Path) -> int:
    """Bytes that the file takes on the host; 0 when it is not there."""
    try:
        return path.stat().st_blocks * 512
    except OSError:
        return 0
