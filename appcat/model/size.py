"""Sizes of memory and disks: text to bytes and back."""

from __future__ import annotations

import re

from appcat.errors import InvalidInput
from appcat.model.name import shorten

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40

_UNITS = {"K": KIB, "M": MIB, "G": GIB, "T": TIB}
_SIZE = re.compile(r"([0-9]{1,12})([KMGT])(iB|B)?", re.ASCII | re.IGNORECASE)

SMALLEST_MEMORY, LARGEST_MEMORY = 112 * MIB, 4 * TIB
SMALLEST_DISK, LARGEST_DISK = 16 * MIB, 2 * TIB


def parse_size(text: str) -> int:
    """Bytes for ``512M``, ``2G``, ``2GiB`` (units are powers of 1024); raises InvalidInput."""
    match = _SIZE.fullmatch(text.strip())
    if not match:
        raise InvalidInput(
            f"{shorten(text)} is not a size",
            hint="write a whole number and a unit, such as 512M or 2G",
            code="invalid-size",
        )
    return int(match[1]) * _UNITS[match[2].upper()]


def parse_memory(text: str) -> int:
    """Bytes of guest memory, a whole number of MiB; raises InvalidInput."""
    return check_memory_size(parse_size(text), shorten(text))


def parse_disk(text: str) -> int:
    """Bytes of a disk; raises InvalidInput."""
    return check_disk_size(parse_size(text), shorten(text))


def check_memory_size(size: int, shown: str = "") -> int:
    """Return ``size`` when a guest can have so many bytes of memory; raises InvalidInput, which calls it ``shown``."""
    _check_within(size, SMALLEST_MEMORY, LARGEST_MEMORY, "memory", shown)
    if size % MIB:
        raise InvalidInput(
            f"memory of {shown or f'{size} bytes'} is not a whole number of MiB", hint="write for example 512M"
        )
    return size


def check_disk_size(size: int, shown: str = "") -> int:
    """Return ``size`` when a disk can have so many bytes; raises InvalidInput, which calls it ``shown``."""
    return _check_within(size, SMALLEST_DISK, LARGEST_DISK, "disk", shown)


def _check_within(size: int, least: int, most: int, what: str, shown: str) -> int:
    if least <= size <= most:
        return size
    raise InvalidInput(
        f"a {what} of {shown or f'{size} bytes'} is out of range",
        hint=f"give between {format_size(least)} and {format_size(most)}",
        code="invalid-size",
    )


def format_size(size: int) -> str:
    """``size`` in bytes, for people: at most one decimal, so that 268435456 reads ``256 MiB``."""
    for unit, name in ((TIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if abs(size) >= unit:
            number = f"{size / unit:.1f}".removesuffix(".0")
            return f"{number} {name}"
    return f"{size} B"
