"""Where vms are on this host: an address of its own for each, or on other systems a port of 127.0.0.1 for SSH.

Given at creation, under the home's allocation lock, so that no two vms of a home have the same. Other homes and users
are not asked: who listens at an address has it (``model.loopback``), and a vm that finds its address taken when it
starts gets another.
"""

from __future__ import annotations

import dataclasses
import logging
import sys
import time
import uuid

from appcat.errors import AppcatError, PortInUse
from appcat.model.host import System, host_system
from appcat.model.loopback import CLAIM_PORTS, candidates, has_own_addresses
from appcat.model.port import OWN, SSH_PORT, PortForward
from appcat.model.vm import Vm
from appcat.services import docker_contexts
from appcat.services.admission import try_bind
from appcat.services.context import Context
from appcat.services.listening import Listening, may_listen
from appcat.services.ssh_config import write_ssh_config
from appcat.services.ssh_ports import free_ssh_port
from appcat.store import locks

log = logging.getLogger(__name__)

ATTEMPTS = 5
# A QEMU that ends gives its lock back a moment before its ports.
LEAVING_PATIENCE = 1.0
POLL = 0.02


class Spots:
    """What the vms of a home have, and what is given out besides. The caller holds the allocation lock."""

    def __init__(self, ctx: Context, but: str = "", system: System | None = None) -> None:
        """What vm ``but`` has counts as free."""
        self._system = system or this_system()
        self._table = Listening()
        self._addresses: set[str] = set()
        self._ports: set[int] = set()
        for name in ctx.store.names():
            if name != but:
                self._note(ctx, name)

    def _note(self, ctx: Context, name: str) -> None:
        try:
            vm = ctx.store.load(name)
        except AppcatError:  # a broken one does not run
            return
        if vm.address:
            self._addresses.add(vm.address)
        else:
            self._ports |= {vm.ssh_port, *(port.host for port in vm.ports if port.is_own)}

    def give(self, vm: Vm) -> Vm:
        """``vm`` at a spot of its own: address and SSH port, and ports for what it publishes by number.

        Raises PortInUse when nothing is left.
        """
        return self.give_ports(self._with_address(vm) if has_own_addresses(self._system) else self.with_port(vm))

    def give_ports(self, vm: Vm, *, anew: bool = True) -> Vm:
        """``vm`` with what it publishes by number on ports of 127.0.0.1, where it has no address.

        Not ``anew``, a port that is free now is kept.
        """
        return dataclasses.replace(vm, ports=tuple(self._published(vm, port, anew) for port in vm.ports))

    def _published(self, vm: Vm, port: PortForward, anew: bool) -> PortForward:
        if not port.is_own:
            return port
        if vm.address:
            return dataclasses.replace(port, host=port.guest)
        if not anew and try_bind(port.places("")[0]) is None:
            return port
        return dataclasses.replace(port, host=self._port(vm))

    def with_port(self, vm: Vm) -> Vm:
        """``vm`` with another port of 127.0.0.1 for SSH, and no address."""
        return dataclasses.replace(vm, address="", ssh_port=self._port(vm))

    def _port(self, vm: Vm) -> int:
        port = free_ssh_port(self._ports, uuid.UUID(vm.uuid).int % 10_000)
        self._ports.add(port)
        return port

    def _with_address(self, vm: Vm) -> Vm:
        port = claim_port(vm, self._table)
        for address in candidates(uuid.UUID(vm.uuid)):
            free = address not in self._addresses and not self._table.is_claimed(address)
            if free and try_bind(PortForward(port, SSH_PORT, address)) is None:
                self._addresses.add(address)
                return dataclasses.replace(vm, address=address, ssh_port=port)
        raise PortInUse(
            f"no address is left for {vm.name}",
            hint=f"does something keep this user from listening on port {port}? ss -ltn 'sport = {port}'",
            code="no-address",
        )


def this_system() -> System:
    """The system of this host."""
    return host_system(sys.platform)


def claim_port(vm: Vm, table: Listening) -> int:
    """The port that claims an address: the same for every vm, unless a program has it everywhere; raises PortInUse."""
    published = {place.host for port in vm.ports if port.is_own for place in port.places(vm.address or OWN)}
    for port in CLAIM_PORTS:
        if port not in published and may_listen(port) and not table.on_every_address(PortForward(port, SSH_PORT)):
            return port
    raise PortInUse(
        "no port is left for SSH", hint=f"free one from {CLAIM_PORTS[0]} to {CLAIM_PORTS[-1]}", code="no-address"
    )


def settled(ctx: Context, vm: Vm) -> Vm:
    """A vm that is about to start, at a spot that it can have: the one it had, or another, written down then.

    The caller holds ``op.lock``. Raises PortInUse when nothing is left.
    """
    if not has_own_addresses(this_system()):
        with locks.hold(ctx.layout.home_lock, f"start {vm.name}", check=ctx.check):
            return _noted(ctx, vm, Spots(ctx).give_ports(vm, anew=False))
    if not vm.address or not _comes_free(vm.address):
        return moved(ctx, vm)
    return _noted(ctx, vm, dataclasses.replace(vm, ssh_port=claim_port(vm, Listening())))


def moved(ctx: Context, vm: Vm) -> Vm:
    """The vm at another spot, since somebody has its own; written down. The caller holds ``op.lock``.

    Raises PortInUse when nothing is left.
    """
    with locks.hold(ctx.layout.home_lock, f"start {vm.name}", check=ctx.check):
        if has_own_addresses(this_system()):
            return _noted(ctx, vm, Spots(ctx, but=vm.name).give(vm))
        spots = Spots(ctx)
        return _noted(ctx, vm, spots.give_ports(spots.with_port(vm), anew=False))


def _noted(ctx: Context, before: Vm, vm: Vm) -> Vm:
    if vm == before:
        return vm
    ctx.store.save(vm)
    write_ssh_config(ctx, vm)
    docker_contexts.follow(ctx, before, vm)
    was, now = before.ssh_forward, vm.ssh_forward
    if before.address and was != now:
        ctx.progress(f"somebody has {was.address}:{was.host}: {vm.name} moves to {now.address}:{now.host}", 0, 0)
    log.info("SSH of %s moves from %s to %s", vm.name, was, now)
    return vm


def _comes_free(address: str) -> bool:
    """Whether nobody listens at ``address``, or soon nobody does."""
    deadline = time.monotonic() + LEAVING_PATIENCE
    while Listening().is_claimed(address):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL)
    return True
