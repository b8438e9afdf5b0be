"""What every kind of clone has in common: who it is, and the files it begins with."""

from __future__ import annotations

import dataclasses
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from appcat.errors import AppcatError
from appcat.guest.identity import SshKey
from appcat.model.event import EventKind
from appcat.model.network import Attachment
from appcat.model.vm import CloneKind, Disk, Nic, Parent, Vm
from appcat.qemu import img
from appcat.services.addresses import random_mac
from appcat.services.context import Context, now, user_name
from appcat.services.create import write_keys
from appcat.services.events import record
from appcat.services.spots import Spots
from appcat.store.files import make_private_directory
from appcat.store.layout import VmPaths


@dataclass(frozen=True)
class Outcome:
    """What came of one clone: the vm and the seconds it took, or the error."""

    name: str
    vm: Vm | None = None
    seconds: float = 0.0
    error: AppcatError | None = None


def plan(
    source: Vm,
    name: str,
    kind: CloneKind,
    spots: Spots,
    networks: tuple[Attachment, ...] = (),
    fork: bool = False,
) -> Vm:
    """A clone of ``source``, at one of the ``spots`` and with these places on ``networks``.

    The caller holds the allocation lock. What the source publishes by number the clone has as well, on an address of
    its own.
    """
    vm = dataclasses.replace(
        source,
        name=name,
        uuid=str(uuid.uuid4()),
        created=now(),
        machine_id=source.machine_id if fork else secrets.token_hex(16),
        hostname=source.inner_name if fork else "",
        nics=source.nics if fork else tuple(Nic(random_mac()) for _ in source.nics),
        disks=tuple(dataclasses.replace(disk, file=f"{disk.name}.qcow2") for disk in source.disks),
        ports=tuple(port for port in source.ports if port.is_own),
        networks=networks,
        autostart=False,
        parent=Parent(source.name, source.uuid, kind),
        owner=user_name(),
    )
    return spots.give(vm)


def add(ctx: Context, vm: Vm, files: Sequence[Path], kind: CloneKind, key: SshKey | None = None) -> None:
    """The clone's directory, its disks from ``files``; made durable later (``VmStore.sync``)."""

    def prepare(paths: VmPaths) -> None:
        make_private_directory(paths.disks)
        for disk, file in zip(vm.disks, files, strict=True):
            _make_disk(ctx, paths.disks / disk.file, disk, file, kind)
        write_keys(ctx, paths, vm, key or SshKey.generate())

    ctx.store.add(vm, prepare, durable=False)
    parent = vm.parent.name if vm.parent else ""
    record(ctx, EventKind.VM_CREATED, vm, template=vm.template.name, parent=parent, clone=str(kind))


def _make_disk(ctx: Context, path: Path, disk: Disk, below: Path, kind: CloneKind) -> None:
    if kind is CloneKind.FULL:
        img.copy(below, path, ctx.check)
    else:
        img.create(path, disk.size, backing=below)
