"""Tiny ELF files for tests: enough of the format for pyelftools to find a section or a dynamic segment."""

from __future__ import annotations

import struct

_HEADER, _SECTION, _SEGMENT = 64, 64, 56
_DYNAMIC, _INTERP, _LOAD = 2, 3, 1
_NULL, _NEEDED, _STRTAB, _STRSZ = 0, 1, 5, 10


def _header(segments: int, sections: int, sections_at: int) -> bytes:
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    return ident + struct.pack(
        "<HHIQQQIHHHHHH", 3, 62, 1, 0, _HEADER if segments else 0, sections_at, 0, 64, _SEGMENT, segments, _SECTION,
        sections, sections - 1 if sections else 0,
    )  # fmt: skip


def module(modinfo: dict[str, str]) -> bytes:
    """A kernel module with a ``.modinfo`` section."""
    info = b"".join(f"{key}={value}".encode() + b"\0" for key, value in modinfo.items())
    names = b"\0.modinfo\0.shstrtab\0"
    sections = [(0, 0, 0, 0), (1, 1, _HEADER, len(info)), (10, 3, _HEADER + len(info), len(names))]
    table = b"".join(
        struct.pack("<IIQQQQIIQQ", name, kind, 0, 0, at, size, 0, 0, 1, 0) for name, kind, at, size in sections
    )
    return _header(0, len(sections), _HEADER + len(info) + len(names)) + info + names + table


def program(needed: list[str], loader: str = "") -> bytes:
    """A dynamically linked program that needs libraries and is started by ``loader``."""
    strings, tags = b"\0", b""
    for name in needed:
        tags += struct.pack("<QQ", _NEEDED, len(strings))
        strings += name.encode() + b"\0"
    start = _HEADER + 3 * _SEGMENT
    interp = loader.encode() + b"\0"
    at = {"strings": start, "interp": start + len(strings), "dynamic": start + len(strings) + len(interp)}
    tags += struct.pack("<QQQQQQ", _STRTAB, at["strings"], _STRSZ, len(strings), _NULL, 0)
    whole = at["dynamic"] + len(tags)

    def segment(kind: int, offset: int, size: int) -> bytes:
        return struct.pack("<IIQQQQQQ", kind, 4, offset, offset, offset, size, size, 1)

    segments = segment(_LOAD, 0, whole) + segment(_DYNAMIC, at["dynamic"], len(tags))
    segments += segment(_INTERP, at["interp"], len(interp)) if loader else segment(0, 0, 0)
    return _header(3, 0, 0) + segments + strings + interp + tags
