"""What a qcow2 file says of itself in its header.

Source: QEMU's ``docs/interop/qcow2.txt``: big-endian; magic at byte 0, offset and length of the backing file's name at
8 and 16, virtual size at 24.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from appcat.errors import Broken

MAGIC = b"QFI\xfb"
_HEADER = struct.Struct(">4sIQIIQ")
LONGEST_NAME = 1023


def virtual_size(path: Path) -> int:
    """What a guest would see of the file, in bytes; raises Broken."""
    return _read(path)[0]


def backing_file(path: Path) -> Path | None:
    """The file that the overlay ``path`` stands on, None for a disk of its own; raises Broken."""
    name = _read(path)[1]
    return Path(os.path.normpath(path.parent / name)) if name else None


def _read(path: Path) -> tuple[int, str]:
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER.size)
            if len(header) < _HEADER.size or header[:4] != MAGIC:
                raise Broken(f"{path.name} is not a qcow2 image", hint=f"check it: qemu-img check {path}")
            _, _, offset, length, _, size = _HEADER.unpack(header)
            if not offset or length > LONGEST_NAME:
                return size, ""
            file.seek(offset)
            return size, os.fsdecode(file.read(length))
    except OSError as error:
        raise Broken(
            f"the disk {path.name} cannot be read: {error.strerror}", hint=f"it should be at {path}"
        ) from error
