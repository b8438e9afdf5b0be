"""Warm templates: a template booted once and frozen when its agent answered, for vms to begin in.

One for each template, number of processors and size of memory; made anew when the image, QEMU, the processor model or
the machine's layout is another.
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
from appcat.model.vm import Nic, TemplateRef, Vm
from appcat.qemu import argv, migration, process
from appcat.services import guests, keeping, machines
from appcat.services.addresses import random_mac
from appcat.services.bases import bases, budget, dig_holes, memory_taken, place_memory
from appcat.services.context import Context, now
from appcat.store import locks
from appcat.store.files import remove_tree, write_atomic
from appcat.store.images import StoredImage
from appcat.store.layout import BasePaths

log = logging.getLogger(__name__)

MAKING_PATIENCE = 600.0
BOOT_PATIENCE = 180.0


@contextlib.contextmanager
def warm_base(ctx: Context, stored: StoredImage, cpus: int, memory: int) -> Iterator[tuple[Base, int]]:
    """A base of the template's image with these processors and this memory, made now when there is none, and a
    descriptor that keeps it.

    Raises InsufficientSpace without room for it, and what a start raises.
    """
    base, use = _find_or_make(ctx, stored, cpus, memory)
    try:
        yield base, use
    finally:
        os.close(use)


def _find_or_make(ctx: Context, stored: StoredImage, cpus: int, memory: int) -> tuple[Base, int]:
    vm = _vm(stored, cpus, memory)
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
    fixed = dataclasses.replace(vm, uuid="", nics=(Nic(""),))
    wiring = machines.wiring_of(ctx, fixed, ctx.layout.runtime(""), nowhere, Purpose.FOUNT, memory=Path("/"))
    command = argv.argv(fixed, machines.boot_of(stored), wiring, ctx.host)
    facts = [command, stored.image.digest, ctx.host.qemu.version]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _vm(stored: StoredImage, cpus: int, memory: int) -> Vm:
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
    )


def _make_room(ctx: Context, vm: Vm) -> None:
    """Warm templates of which there is a newer image, and those that do not fit the budget beside a new one, go."""
    warm = [base for base in bases(ctx).all() if base.warm]
    taken = sum(memory_taken(base) for base in warm)
    for base in sorted(warm, key=lambda base: base.created):
        same = (base.vm.template.name, base.vm.cpus, base.vm.memory) == (vm.template.name, vm.cpus, vm.memory)
        if (same or taken + vm.memory > budget(ctx)) and bases(ctx).remove_if_unused(base.id):
            taken -= memory_taken(base)


def _make(ctx: Context, vm: Vm, stored: StoredImage, identifier: str, paths: BasePaths, key: str) -> Base:
    ctx.progress(f"warming template {vm.template.name}: booted once, then started from memory", 0, 0)
    memory = place_memory(ctx, paths, vm.memory)
    runtime = ctx.layout.runtime(identifier)
    machines.claim_runtime(runtime)
    identity = [*statements(_identity(vm, stored)), hosts_statement(hosts(vm.name))]
    write_atomic(paths.identity, document("boot", identity), durable=False)
    wiring = machines.wiring_of(ctx, vm, runtime, paths, Purpose.FOUNT, memory=memory)
    use = bases(ctx).use(identifier)
    try:
        child = process.spawn(argv.argv(vm, machines.boot_of(stored), wiring, ctx.host), paths.qemu_log, [use])
    finally:
        os.close(use)
    try:
        _boot_and_save(ctx, vm, identifier, paths, child)
    finally:
        child.kill()  # a guest without disks: nothing is lost
        child.wait()
        remove_tree(runtime.root)
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
    )
    bases(ctx).publish(base)
    return base


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
