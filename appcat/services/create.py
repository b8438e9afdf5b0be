"""``create``: a vm on disk, powered off."""

from __future__ import annotations

import getpass
import os
import secrets
import uuid
from dataclasses import dataclass, field

import psutil

from appcat.errors import InsufficientMemory
from appcat.guest.identity import SshKey
from appcat.model.image import Image
from appcat.model.machine import pinned_machine
from appcat.model.name import check_name
from appcat.model.port import PortForward, check_distinct
from appcat.model.size import format_size
from appcat.model.vm import Disk, Nic, RestartPolicy, TemplateRef, Vm, check_cpus
from appcat.qemu import img
from appcat.services import templates
from appcat.services.admission import check_space, free_ssh_port, ssh_ports
from appcat.services.context import Context, now
from appcat.services.keys import user_key
from appcat.store import locks
from appcat.store.files import make_private_directory, write_atomic
from appcat.store.layout import VmPaths
from appcat.store.vms import already_exists

DEFAULT_TEMPLATE = "pico"


@dataclass(frozen=True)
class CreateRequest:
    """What the user asks for; None takes the template's default. Sizes are in bytes."""

    name: str
    template: str = DEFAULT_TEMPLATE
    cpus: int | None = None
    memory: int | None = None
    disk: int | None = None
    ports: tuple[PortForward, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    restart: RestartPolicy = RestartPolicy.NO
    autostart: bool = False


def create(ctx: Context, request: CreateRequest) -> Vm:
    """Make a vm, whole or not at all, and leave it powered off; builds its template when that is not there yet.

    Raises InvalidInput, AlreadyExists, InsufficientMemory, InsufficientSpace, and what a template build raises.
    """
    check_request(ctx, request)
    image = templates.ensure(ctx, request.template).image
    user_key(ctx)
    make_private_directory(ctx.layout.vms)
    with locks.hold(ctx.layout.home_lock, f"create {request.name}"):
        vm = _plan(ctx, request, image)
        ctx.store.add(vm, lambda paths: _prepare(paths, vm))
    return vm


def check_request(ctx: Context, request: CreateRequest) -> None:
    """Refuse what can never work before anything is built or written."""
    check_name(request.name)
    if ctx.layout.vm(request.name).root.exists():
        raise already_exists(request.name)
    templates.find(ctx, request.template)
    check_distinct(request.ports)
    if request.cpus is not None:
        check_cpus(request.cpus, psutil.cpu_count() or 1)
    total = psutil.virtual_memory().total
    if request.memory is not None and request.memory > total:
        raise InsufficientMemory(
            f"{request.name} would have {format_size(request.memory)} of memory; this host has {format_size(total)}",
            hint="give it less with --memory",
        )
    make_private_directory(ctx.layout.home)
    check_space(ctx.layout.home)


def _plan(ctx: Context, request: CreateRequest, image: Image) -> Vm:
    identifier = uuid.uuid4()
    return Vm(
        name=request.name,
        uuid=str(identifier),
        created=now(),
        template=TemplateRef(image.template, image.digest),
        machine=pinned_machine(image.arch),
        cpus=request.cpus or image.cpus,
        memory=request.memory or image.memory,
        machine_id=secrets.token_hex(16),
        login=image.login,
        ssh_port=free_ssh_port(ssh_ports(ctx), identifier.int % 10_000),
        nics=(Nic(random_mac()),),
        disks=() if request.disk is None else (Disk("data", "data.qcow2", request.disk),),
        ports=request.ports,
        restart=request.restart,
        autostart=request.autostart,
        owner=_user_name(),
        labels=request.labels,
    )


def _prepare(paths: VmPaths, vm: Vm) -> None:
    make_private_directory(paths.disks)
    for disk in vm.disks:
        img.create(paths.disks / disk.file, disk.size)
    key = SshKey.generate()
    write_atomic(paths.host_key, key.openssh)
    write_atomic(paths.known_hosts, f"{vm.name} {key.public_line}\n")


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def random_mac() -> str:
    """A locally administered unicast address with QEMU's customary prefix."""
    return ":".join(["52", "54", "00", *(f"{byte:02x}" for byte in secrets.token_bytes(3))])
