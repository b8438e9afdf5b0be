"""Tap devices for QEMUs that are to start with one: real, each alone in a network namespace of its own."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.unit.support.processes import PATIENCE

# <linux/if_tun.h>: TUNSETIFF with IFF_TAP | IFF_NO_PI | IFF_VNET_HDR. The descriptor outlives its maker, and with it
# the namespace.
_MAKER = """
import fcntl, os, socket, struct
tap = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
fcntl.ioctl(tap, 0x400454CA, struct.pack("16sH22x", b"", 0x0002 | 0x1000 | 0x4000))
socket.send_fds(socket.socket(fileno=0), [b"."], [tap])
"""


@contextlib.contextmanager
def tap() -> Iterator[int]:
    """The descriptor of a new tap; the test is skipped where this user may not have one."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        done = subprocess.run(
            ["unshare", "--user", "--map-root-user", "--net", sys.executable, "-c", _MAKER],
            stdin=theirs,
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        if done.returncode:
            pytest.skip(f"no tap device here: {done.stderr.decode(errors='replace').strip()[-200:]}")
        _, (descriptor,), _, _ = socket.recv_fds(ours, 1, 1)
    with open(descriptor, "rb", buffering=0):  # noqa: PTH123
        yield descriptor
