"""The smallest kernels that QEMU loads. None is ever run: the machines wait before their first instruction."""

from __future__ import annotations

import struct

from appcat.model.vm import Arch

LOAD_ADDRESS = 0x100000
CODE_OFFSET = 0x1000
HALT_FOR_EVER = b"\xf4\xeb\xfd"  # hlt; jmp back to it
ELF_HEADER, PROGRAM_HEADER = 64, 56
PT_LOAD, PT_NOTE = 1, 4
EM_X86_64, ET_EXEC = 62, 2
XEN_ELFNOTE_PHYS32_ENTRY = 18


def smallest_kernel(arch: Arch) -> bytes:
    """A file that QEMU takes for a kernel of ``arch``; on arm64 whatever is not an ELF file is a raw image."""
    return pvh_kernel() if arch is Arch.X86_64 else bytes(4096)


def pvh_kernel() -> bytes:
    """An x86 ELF file with a PVH entry note, whose code halts.

    Sources: System V ABI (ELF-64), Xen's ``elfnote.h``; QEMU's ``load_elfboot`` wants exactly this."""
    note = struct.pack("<III4sQ", 4, 8, XEN_ELFNOTE_PHYS32_ENTRY, b"Xen\0", LOAD_ADDRESS)
    note_offset = ELF_HEADER + 2 * PROGRAM_HEADER
    headers = _program_header(PT_LOAD, CODE_OFFSET, LOAD_ADDRESS, len(HALT_FOR_EVER), align=0x1000)
    headers += _program_header(PT_NOTE, note_offset, note_offset, len(note), align=4)
    return (_elf_header() + headers + note).ljust(CODE_OFFSET, b"\0") + HALT_FOR_EVER


def _elf_header() -> bytes:
    identity = b"\x7fELF" + bytes([2, 1, 1]).ljust(12, b"\0")
    kind = struct.pack("<HHIQQQ", ET_EXEC, EM_X86_64, 1, LOAD_ADDRESS, ELF_HEADER, 0)
    return identity + kind + struct.pack("<IHHHHHH", 0, ELF_HEADER, PROGRAM_HEADER, 2, 0, 0, 0)


def _program_header(kind: int, offset: int, address: int, size: int, align: int) -> bytes:
    return struct.pack("<IIQQQQQQ", kind, 5, offset, address, address, size, size, align)
