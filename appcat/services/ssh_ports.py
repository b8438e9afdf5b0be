"""The host port that leads to a guest's SSH server: given at creation, moved when somebody else has it at start."""

from __future__ import annotations

import dataclasses
import logging

from appcat.errors import AppcatError, PortInUse
from appcat.model.port import PortForward
from appcat.model.vm import Vm
from appcat.services.admission import try_bind
from appcat.services.context import Context
from appcat.store import locks

log = logging.getLogger(__name__)

FIRST_SSH_PORT, LAST_SSH_PORT = 20022, 32767
PORT_ATTEMPTS = 5


def ssh_ports(ctx: Context) -> set[int]:
    """SSH ports that the vms of this home have; the caller holds the allocation lock."""
    ports = set()
    for name in ctx.store.names():
        try:
            ports.add(ctx.store.load(name).ssh_port)
        except AppcatError:
            continue
    return ports


def free_ssh_port(taken: set[int], start: int) -> int:
    """A port for SSH that no vm of this home has and that is free now, searched upwards from ``start``.

    Below 32768, so that no outgoing connection of the host is given it. Raises PortInUse when all are taken.
    """
    span = LAST_SSH_PORT - FIRST_SSH_PORT + 1
    for step in range(span):
        port = FIRST_SSH_PORT + (start + step) % span
        if port not in taken and try_bind(PortForward(port, 22)) is None:
            return port
    raise PortInUse("no port is left for SSH", hint=f"free ports from {FIRST_SSH_PORT} to {LAST_SSH_PORT}")


def with_new_ssh_port(ctx: Context, vm: Vm) -> Vm:
    """The vm with the next free SSH port, written down; raises PortInUse."""
    with locks.hold(ctx.layout.home_lock, f"start {vm.name}"):
        port = free_ssh_port(ssh_ports(ctx), vm.ssh_port - FIRST_SSH_PORT + 1)
        moved = dataclasses.replace(vm, ssh_port=port)
        ctx.store.save(moved)
    log.info("the SSH port of %s moves from %d to %d", vm.name, vm.ssh_port, port)
    return moved
