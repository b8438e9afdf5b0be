"""Where on this host the ports of guests are reached, and why one is not at its own number.

Nothing stores that: of a running vm, what the kernel says is listened on; of a stopped one, what its next start would
get as things are.
"""

from __future__ import annotations

from dataclasses import dataclass

from appcat.model.port import SSH, PortForward
from appcat.model.vm import Vm
from appcat.services.listening import Listening, low_limit, lowest_port, may_listen


@dataclass(frozen=True)
class Place:
    """One place on the host that leads into a guest.

    ``own``: the port is published by its number, on the vm's own address. ``advice`` says what keeps it from being at
    its number, and what to do; empty when nothing does.
    """

    forward: PortForward
    own: bool = False
    advice: str = ""


@dataclass(frozen=True)
class Outlook:
    """The places of one vm. ``alive``: it runs; ``table`` is what listens on this host."""

    vm: Vm
    alive: bool
    table: Listening

    @property
    def ssh(self) -> tuple[Place, ...]:
        """Those of the guest's SSH server: the one it always has first, then port 22 if that is so."""
        if not self.vm.address:
            return (Place(self.vm.ssh_forward),)
        direct = SSH.places(self.vm.address)[1]
        if self._is_had(direct):
            return (Place(self.vm.ssh_forward, True), Place(direct, True))
        return (Place(self.vm.ssh_forward, True, self._advice(direct, f"appcat vm restart {self.vm.name}")),)

    @property
    def published(self) -> tuple[Place, ...]:
        """Those of the published ports, in their order; of one published by its number, that number's place first."""
        return tuple(place for port in self.vm.ports for place in self._of(port))

    def _of(self, port: PortForward) -> list[Place]:
        sure, *more = port.places(self.vm.address, low_limit())
        if not (port.is_own and self.vm.address):
            return [Place(sure, port.is_own)]
        again = f"appcat vm port add {self.vm.name} {port}"
        if self.alive and not self.table.has(sure):  # a command that added it was cut off
            return [Place(sure, True, f"it is not there yet: {again}")]
        had = [place for place in more if self._is_had(place)]
        advice = "" if had or not more else self._advice(more[0], again)
        return [*(Place(place, True) for place in had), Place(sure, True, advice)]

    def _is_had(self, place: PortForward) -> bool:
        """Whether the vm has a place that it need not have; of a stopped one, whether it would."""
        if self.alive:
            return self.table.has(place)
        possible = may_listen(place.host) and not self.table.on_every_address(place)
        return possible and place in self.vm.extras(low_limit())

    def _advice(self, place: PortForward, again: str) -> str:
        """What keeps the vm from having a place, and what to do; ``again`` makes a running one try anew."""
        then = f", then: {again}" if self.alive else ""
        if not may_listen(place.host):
            remedy = f"sudo sysctl net.ipv4.ip_unprivileged_port_start={place.host}"
            return f"not at port {place.host}, since this user may not listen below {lowest_port()}: {remedy}{then}"
        if self.table.on_every_address(place):
            return f"not at port {place.host}, since a program listens on it everywhere: end that{then}"
        return f"not at port {place.host}, since it could not be had" + (f": try again with {again}" if then else "")
