"""Warm templates: a template booted once and frozen when its agent answered, for vms to begin in.

One for each template, number of processors, size of memory and number of network cards; made anew when the image, QEMU,
the processor model, the kind of switch or the machine's layout is another.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import secrets
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from appcat.errors import NotFound
from appcat.guest import program
from appcat.guest.identity import Identity, SshKey, clock_statement, document, hosts, hosts_statement, statements
from appcat.model.base import Base
from appcat.model.machine import Purpose, pinned_machine
from appcat.model.network import Attachment
from appcat.model.vm import Nic, TemplateRef, Vm
from appcat.qemu import argv, migration, process
from appcat.services import cables, guests, keeping, machines
from appcat.services.addresses import random_mac
from appcat.services.bases import bases, budget, dig_holes, layers, memory_taken, place_memory
from appcat.services.cables import Cables
from appcat.services.certificates import authority_of, statements_for_nobody
from appcat.services.context import Context, now
from appcat.services.image_disks import image_layers, make_disks, plan_disks
from appcat.store import locks
from appcat.store.files import make_private_directory, remove_tree, write_atomic
from appcat.store.images import StoredImage
from appcat.store.layout import BasePaths

log = logging.getLogger(__name__)

MAKING_PATIENCE = 600.0
BOOT_PATIENCE = 300.0


@contextlib.contextmanager
def warm_base(
    ctx: Context, stored: StoredImage, cpus: int, memory: int, networks: int = 0
) -> Iterator[tuple[Base, int]]:
    """A base of the template's image with these processors, this memory and cards for so many private networks, in the
    first slots; made now when there is none. And a descriptor that keeps it.

    Raises InsufficientSpace without room for it, and what a start raises.
    """
    base, use = _find_or_make(ctx, _vm(stored, cpus, memory, networks), stored)
    try:
        yield base, use
    finally:
        os.close(use)


def _find_or_make(ctx: Context, vm: Vm, stored: StoredImage) -> tuple[Base, int]:
    key = key_of(ctx, vm, stored)
    if found := _find(ctx, key):
        return found
    with locks.hold(ctx.layout.warm_lock, "make a warm template", wait=MAKING_PATIENCE, check=ctx.check):
        if found := _find(ctx, key):
            return found
        keeping.ensure(ctx)  # ends what is left if this command is killed
        _make_room(ctx, vm)
        with bases(ctx).making() as (identifier, paths):
            base = _make(ctx, vm, stored, identifier, paths, key)
            return base, bases(ctx).use(base.id)


def _find(ctx: Context, key: str) -> tuple[Base, int] | None:
    for base in bases(ctx).all():
        if base.warm == key:
            with contextlib.suppress(NotFound):  # gone this moment
                return base, bases(ctx).use(base.id)
    return None


def key_of(ctx: Context, vm: Vm, stored: StoredImage) -> str:
    """A digest of all that a warm template depends on: the command line says most of it."""
    nowhere = BasePaths(Path("/"), None)
    disks = [Path("/") for _ in vm.disks]
    places = tuple(dataclasses.replace(place, mac="") for place in vm.networks)
    fixed = dataclasses.replace(vm, uuid="", nics=(Nic(""),), networks=places)
    ports = cables.shapes(ctx, places)
    wiring = machines.wiring_of(
        ctx, fixed, ctx.layout.runtime(""), nowhere, Purpose.FOUNT, memory=Path("/"), ports=ports, disks=disks
    )
    command = argv.argv(fixed, machines.boot_of(stored), wiring, ctx.host)
    facts = [command, stored.image.digest, ctx.host.qemu.version]
    if stored.image.certificate:  # what serves TLS in it believes one authority
        facts.append(authority_of(ctx).decode())
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _vm(stored: StoredImage, cpus: int, memory: int, networks: int) -> Vm:
    image = stored.image
    return Vm(
        name=image.template,
        uuid=str(uuid.uuid4()),
        created=now(),
        template=TemplateRef(image.template, image.digest),
        machine=pinned_machine(image.arch),
        cpus=cpus,
        memory=memory,
        machine_id=secrets.token_hex(16),
        login=image.login,
        ssh_port=1,
        nics=(Nic(random_mac()),),
        disks=plan_disks((), image),
        networks=tuple(_nowhere(slot) for slot in range(networks)),
    )


def _nowhere(slot: int) -> Attachment:
    """A card that is on no network: its port is never joined to one."""
    return Attachment(f"nowhere-{slot}", random_mac(), "0.0.0.0", slot)


def _make_room(ctx: Context, vm: Vm) -> None:
    """Warm templates of which there is a newer image, and those that do not fit the budget beside a new one, go."""
    warm = [base for base in bases(ctx).all() if base.warm]
    taken = sum(memory_taken(base) for base in warm)
    for base in sorted(warm, key=lambda base: base.created):
        if (_kind(base.vm) == _kind(vm) or taken + vm.memory > budget(ctx)) and bases(ctx).remove_if_unused(base.id):
            taken -= memory_taken(base)


def _kind(vm: Vm) -> tuple[str, int, int, int]:
    """What there is one warm template of."""
    return vm.template.name, vm.cpus, vm.memory, len(vm.networks)


def _make(ctx: Context, vm: Vm, stored: StoredImage, identifier: str, paths: BasePaths, key: str) -> Base:
    ctx.progress(f"warming template {vm.template.name}: booted once, then started from memory", 0, 0)
    memory = place_memory(ctx, paths, vm.memory)
    runtime = ctx.layout.runtime(identifier)
    machines.claim_runtime(runtime)
    certificate = statements_for_nobody(ctx, stored.image)
    identity = [*certificate, *statements(_identity(vm, stored)), hosts_statement(hosts(vm.name))]
    write_atomic(paths.identity, document("boot", identity), durable=False)
    disks = _lay_disks(ctx, vm, stored, paths)
    with cables.laid(ctx, identifier, vm.networks) as laid:
        wiring = machines.wiring_of(
            ctx, vm, runtime, paths, Purpose.FOUNT, memory=memory, ports=laid.wiring, disks=disks
        )
        child = _spawn(ctx, argv.argv(vm, machines.boot_of(stored), wiring, ctx.host), identifier, paths, laid)
    try:
        _boot_and_save(ctx, vm, identifier, paths, child)
    finally:
        child.kill()  # its disk is whole: it was flushed when the guest was halted
        child.wait()
        remove_tree(runtime.root)
        if laid.backend:
            cables.forget(ctx, identifier)
    with locks.hold(ctx.layout.home_lock, f"warm {vm.template.name}", check=ctx.check):
        frozen = [
            dataclasses.replace(disk, file=layers(ctx).add(path).name)
            for disk, path in zip(vm.disks, disks, strict=True)
        ]
        return _publish(ctx, dataclasses.replace(vm, disks=tuple(frozen)), identifier, memory, key, laid.backend)


def _lay_disks(ctx: Context, vm: Vm, stored: StoredImage, paths: BasePaths) -> list[Path]:
    """The disks that the image wants, in the directory of the base to be."""
    make_private_directory(paths.disks)
    with locks.hold(ctx.layout.home_lock, f"warm {vm.template.name}", check=ctx.check):
        make_disks(vm.disks, paths.disks, image_layers(ctx, stored))
    return [paths.disks / disk.file for disk in vm.disks]


def _publish(ctx: Context, vm: Vm, identifier: str, memory: Path, key: str, backend: str) -> Base:
    base = Base(
        id=identifier,
        created=now(),
        vm=vm,
        qemu_version=ctx.host.qemu.version,
        accelerator=str(ctx.host.accelerator),
        cpu=argv.cpu_model(vm.machine.arch, ctx.host.accelerator),
        memory=str(memory),
        memory_used=dig_holes(memory),
        warm=key,
        backend=backend,
    )
    bases(ctx).publish(base)
    return base


def _spawn(
    ctx: Context, command: list[str], identifier: str, paths: BasePaths, laid: Cables
) -> subprocess.Popen[bytes]:
    use = bases(ctx).use(identifier)
    try:
        return process.spawn(command, paths.qemu_log, [use, *laid.inherit])
    finally:
        os.close(use)


def _boot_and_save(ctx: Context, vm: Vm, identifier: str, paths: BasePaths, child: subprocess.Popen[bytes]) -> None:
    from appcat.qemu.agent import Agent

    runtime = ctx.layout.runtime(identifier)
    monitor = machines.await_monitor(runtime, child)
    if monitor is None:
        raise machines.not_started(f"template {vm.template.name}", paths.qemu_log)
    with monitor:
        with Agent(runtime.agent, BOOT_PATIENCE, ctx.check):
            pass
        program.request(runtime.guest, [clock_statement(time.time())], guests.CLONE_PATIENCE)
        monitor.execute("stop")
        migration.save(monitor, paths.state)


def _identity(vm: Vm, stored: StoredImage) -> Identity:
    """Somebody for the time being: who begins here gets an identity of its own before anything else."""
    return Identity(
        hostname=vm.name,
        machine_id=vm.machine_id,
        mac=vm.nics[0].mac,
        host_key=SshKey.generate(),
        authorized_key="",
        ssh=stored.image.ssh,
        home=guests.home_of(vm.login),
        entropy=secrets.token_bytes(guests.ENTROPY),
    )
