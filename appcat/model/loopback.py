"""Addresses of the host that belong to one vm each: 127.77.x.y, on systems where all of 127.0.0.0/8 is the host itself.

That an address is a vm's is claimed by listening on it (``Vm.ssh_forward``), so two users and two homes need not know
of each other.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator

from appcat.model.host import System

NETWORK = "127.77"
LAST = 254
COUNT = 256 * LAST
# Whoever listens on one of these has the address: on the first, the same for every vm (20000 + 22, as of any published
# low port), unless a program of the host listens on it everywhere.
CLAIM_PORTS = range(20022, 20122)


def has_own_addresses(system: System) -> bool:
    """Whether vms of a host with this system have addresses of their own."""
    return system is System.LINUX


def candidates(identifier: uuid.UUID) -> Iterator[str]:
    """All addresses there are, each once; from which one on depends on the vm, so that homes seldom meet."""
    first = identifier.int % COUNT
    for step in range(COUNT):
        upper, lower = divmod((first + step) % COUNT, LAST)
        yield f"{NETWORK}.{upper}.{lower + 1}"
