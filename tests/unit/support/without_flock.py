"""``python -m tests.unit.support.without_flock LOCK``: hold a lock where flock is not to be had.

A seccomp filter makes the system call fail with EOPNOTSUPP, as on file systems without locks. Prints the error's code.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import struct
import sys
from pathlib import Path

from appcat.errors import AppcatError
from appcat.store import locks

FLOCK = {"x86_64": 73, "aarch64": 32}[platform.machine()]
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
ALLOW, FAIL = 0x7FFF0000, 0x00050000 | errno.EOPNOTSUPP
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06


class Program(ctypes.Structure):
    """``struct sock_fprog``."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def forbid_flock() -> None:
    """Load the number of the system call; fail flock, allow everything else."""
    instructions = ((LOAD, 0, 0, 0), (JUMP_IF_EQUAL, 0, 1, FLOCK), (RETURN, 0, 0, FAIL), (RETURN, 0, 0, ALLOW))
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in instructions)
    program = Program(len(instructions), code)
    libc = ctypes.CDLL(None, use_errno=True)
    for call in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program))):
        if libc.prctl(*call):
            raise OSError(ctypes.get_errno(), "prctl")


if __name__ == "__main__":
    forbid_flock()
    try:
        with locks.hold(Path(sys.argv[1]), "try"):
            print("held")
    except AppcatError as error:
        print(error.code, error.message, error.hint, sep="\n")
