"""Ports of 127.0.0.1 for vms that have no address of their own."""

from __future__ import annotations

from appcat.errors import PortInUse
from appcat.model.port import SSH_PORT, PortForward
from appcat.services.admission import try_bind

FIRST_SSH_PORT, LAST_SSH_PORT = 20022, 32767


def free_ssh_port(taken: set[int], start: int) -> int:
    """A port that no vm of this home has (``taken``) and that is free now, searched upwards from ``start``.

    Below 32768, so that no outgoing connection of the host is given it. Raises PortInUse when all are taken.
    """
    span = LAST_SSH_PORT - FIRST_SSH_PORT + 1
    for step in range(span):
        port = FIRST_SSH_PORT + (start + step) % span
        if port not in taken and try_bind(PortForward(port, SSH_PORT)) is None:
            return port
    raise PortInUse("no port is left for SSH", hint=f"free ports from {FIRST_SSH_PORT} to {LAST_SSH_PORT}")
