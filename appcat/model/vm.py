"""A virtual machine as its owner wants it: what ``vm.json`` holds."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from appcat.errors import Broken, InvalidInput
from appcat.model.name import shorten
from appcat.model.network import DOMAIN, MOST_NETWORKS, Attachment
from appcat.model.port import LARGEST_PORT, LOOPBACK, LOW, SSH, SSH_PORT, PortForward
from appcat.model.size import MIB

SCHEMA = 3
LOCAL_NODE = "local"
LARGEST_CPUS = 64
DISK_SLOTS = 8
# The disk with the root file system, of guests that have one; at the end, so that it moves no other.
ROOT_DISK = "root"
ROOT_SLOT = DISK_SLOTS - 1

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_MACHINE_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", re.ASCII)
_IPV4 = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3}){3}", re.ASCII)
_LOGIN = re.compile(r"[a-z_][a-z0-9_-]{0,31}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_DISK = re.compile(r"[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?", re.ASCII)  # a virtio serial number has 20 bytes
_NETWORK = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)


class Arch(StrEnum):
    """Guest architectures; always the host's own, since hardware acceleration needs that."""

    X86_64 = "x86_64"
    AARCH64 = "aarch64"


class RestartPolicy(StrEnum):
    """What the keeper does when a vm ends without having been asked to by its owner.

    ``on-failure`` restarts after a crash or a kill from outside, ``always`` also after the guest powered itself off.
    """

    NO = "no"
    ON_FAILURE = "on-failure"
    ALWAYS = "always"


@dataclass(frozen=True)
class TemplateRef:
    """The recipe a vm was made from and the very image it uses, by content."""

    name: str
    image: str


@dataclass(frozen=True)
class Machine:
    """The virtual hardware's generation; saved states depend on it, so it never changes in a vm's life."""

    arch: Arch
    type: str


@dataclass(frozen=True)
class Disk:
    """A qcow2 file beside ``vm.json``; ``size`` is what the guest sees, in bytes.

    ``slot`` is its place on the machine from power-on and stays its own, so removing one disk never renames another.
    The guest sees ``name`` as the disk's serial number.
    """

    name: str
    file: str
    size: int
    slot: int


@dataclass(frozen=True)
class Nic:
    """A network interface card. NIC 0 is always user-mode: egress, SSH and port forwards go through it."""

    mac: str


class CloneKind(StrEnum):
    """How a vm was made from another: a copy, overlays on its frozen disks, or from its running memory as well."""

    FULL = "full"
    LINKED = "linked"
    INSTANT = "instant"


@dataclass(frozen=True)
class Parent:
    """The vm that a clone was made from; it may be gone."""

    name: str
    uuid: str
    kind: CloneKind


@dataclass(frozen=True)
class Vm:
    """One virtual machine. ``memory`` is in bytes, ``created`` in RFC 3339 UTC, ``login`` the account SSH uses.

    ``hostname`` is what the guest calls itself where that is not ``name``: a fork keeps its source's. ``address`` is
    the loopback address it has on the host, empty where it has none. ``networks`` are the private ones it is on.
    """

    name: str
    uuid: str
    created: str
    template: TemplateRef
    machine: Machine
    cpus: int
    memory: int
    machine_id: str
    login: str
    ssh_port: int
    nics: tuple[Nic, ...]
    disks: tuple[Disk, ...] = ()
    ports: tuple[PortForward, ...] = ()
    restart: RestartPolicy = RestartPolicy.NO
    autostart: bool = False
    parent: Parent | None = None
    hostname: str = ""
    address: str = ""
    networks: tuple[Attachment, ...] = ()
    owner: str = ""
    node: str = LOCAL_NODE
    labels: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, object] = field(default_factory=dict)

    @property
    def inner_name(self) -> str:
        """What the guest calls itself."""
        return self.hostname or self.name

    @property
    def root_disk(self) -> Disk | None:
        """The disk that its root file system is on; None where that is in memory."""
        return next((disk for disk in self.disks if disk.slot == ROOT_SLOT and disk.name == ROOT_DISK), None)

    @property
    def ssh_forward(self) -> PortForward:
        """The forward that always leads to the guest's SSH server; on an address of its own, the vm's claim to it."""
        return PortForward(self.ssh_port, SSH_PORT, self.address or LOOPBACK)

    def forwards(self, low: int = LOW) -> tuple[PortForward, ...]:
        """Every place on the host that a running QEMU of this vm is sure to have, SSH's first.

        ``low``: numbers below are had only where the host lets this user have them (``extras``).
        """
        return (self.ssh_forward, *(port.places(self.address, low)[0] for port in self.ports))

    def extras(self, low: int = LOW) -> tuple[PortForward, ...]:
        """The places that it has besides where it can: published ports at their own low numbers, SSH's first."""
        sure = self.forwards(low)
        published = (SSH, *self.ports) if self.address else ()
        more = [place for port in published for place in port.places(self.address, low)[1:]]
        return tuple(place for place in more if not any(place.clashes(other) for other in sure))


def place_names(vm: Vm, place: Attachment) -> list[str]:
    """What the vm is called on a network: in full, in short, and last the name of a fork's guest, where it differs."""
    inner = [] if vm.inner_name == vm.name else [vm.inner_name]
    return [f"{vm.name}.{place.network}.{DOMAIN}", vm.name, *inner]


def check_cpus(count: int, host_cpus: int) -> int:
    """Return ``count`` when this host can run so many virtual CPUs; raises InvalidInput."""
    most = min(LARGEST_CPUS, max(host_cpus * 4, 4))
    if 1 <= count <= most:
        return count
    raise InvalidInput(
        f"{count} virtual CPUs are out of range",
        hint=f"give between 1 and {most}; this host has {host_cpus}",
        code="invalid-cpus",
    )


def check_disk_name(name: str) -> str:
    """Return ``name`` when a disk can have it; raises InvalidInput."""
    if _DISK.fullmatch(name):
        return name
    raise InvalidInput(
        f"{shorten(name)} is not a name for a disk",
        hint="use 1 to 20 of a-z, 0-9 and '-', starting and ending with a letter or digit",
        code="invalid-name",
    )


def free_slot(disks: tuple[Disk, ...]) -> int:
    """The lowest place that no disk has; raises InvalidInput when all are taken."""
    taken = {disk.slot for disk in disks}
    for slot in range(DISK_SLOTS):
        if slot not in taken:
            return slot
    raise InvalidInput(f"a vm has room for {DISK_SLOTS} disks", hint="remove one first: appcat vm disk remove")


def give_disks_slots(body: dict[str, Any]) -> dict[str, Any]:
    """From schema 1, where a disk's place was its number in the list."""
    disks = [{**disk, "slot": slot} for slot, disk in enumerate(body.get("disks", []))]
    return {**body, "disks": disks}


def unchanged(body: dict[str, Any]) -> dict[str, Any]:
    """From schema 2, which knew neither networks nor an address of a vm's own."""
    return body


MIGRATIONS = {1: give_disks_slots, 2: unchanged}


def check_sense(vm: Vm) -> Vm:
    """Return a vm that was read from a file when its values can be true; raises Broken, naming what cannot.

    Some of them become paths and command lines, and a file may have been edited by hand.
    """
    ports = [vm.ssh_port, *(port for forward in vm.ports for port in (forward.host, forward.guest))]
    checks = {
        "uuid": bool(_UUID.fullmatch(vm.uuid)),
        "machine_id": bool(_MACHINE_ID.fullmatch(vm.machine_id)),
        "cpus": 1 <= vm.cpus <= LARGEST_CPUS,
        "memory": vm.memory > 0 and vm.memory % MIB == 0,
        "nics": bool(vm.nics) and all(_MAC.fullmatch(nic.mac) for nic in vm.nics),
        "disks": _disks_make_sense(vm.disks),
        "networks": _networks_make_sense(vm.networks),
        "address": not vm.address or bool(_IPV4.fullmatch(vm.address)),
        "addresses": all(forward.is_own or _IPV4.fullmatch(forward.address) for forward in vm.ports),
        "login": bool(_LOGIN.fullmatch(vm.login)),
        "template": bool(_DIGEST.fullmatch(vm.template.image)),
        "ports": all(1 <= port <= LARGEST_PORT for port in ports),
    }
    wrong = [key for key, holds in checks.items() if not holds]
    if wrong:
        raise Broken(f"vm.json: {wrong[0]} has a value that cannot be")
    return vm


def _disks_make_sense(disks: tuple[Disk, ...]) -> bool:
    parts = [{getattr(disk, field) for disk in disks} for field in ("name", "file", "slot")]
    if any(len(values) != len(disks) for values in parts):
        return False
    return all(
        _DISK.fullmatch(disk.name) and _FILE.fullmatch(disk.file) and 0 <= disk.slot < DISK_SLOTS and disk.size > 0
        for disk in disks
    )


def _networks_make_sense(networks: tuple[Attachment, ...]) -> bool:
    parts = [{getattr(there, field) for there in networks} for field in ("network", "mac", "slot")]
    if any(len(values) != len(networks) for values in parts):
        return False
    return all(
        _NETWORK.fullmatch(there.network)
        and _MAC.fullmatch(there.mac)
        and _IPV4.fullmatch(there.address)
        and 0 <= there.slot < MOST_NETWORKS
        for there in networks
    )
