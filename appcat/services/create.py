"""``create``: a vm on disk, powered off."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from appcat.guest.identity import SshKey
from appcat.model.config import parse_cpus, parse_restart
from appcat.model.event import EventKind
from appcat.model.image import Image
from appcat.model.machine import pinned_machine
from appcat.model.name import check_name
from appcat.model.network import Joining, parse_networks
from appcat.model.port import SSH_PORT, PortForward, check_distinct, own_forward
from appcat.model.size import parse_memory
from appcat.model.vm import Nic, RestartPolicy, TemplateRef, Vm, check_cpus
from appcat.services import addresses, config, neighbours, ssh_config, templates
from appcat.services.admission import check_space, check_total_memory
from appcat.services.context import Context, now, user_name
from appcat.services.events import record
from appcat.services.image_disks import check_distinct_disks, image_layers, make_disks, plan_disks
from appcat.services.keys import user_key
from appcat.services.operations import tracked
from appcat.services.spots import Spots
from appcat.store import locks
from appcat.store.files import make_private_directory, write_atomic
from appcat.store.layout import VmPaths
from appcat.store.vms import already_exists

DEFAULT_TEMPLATE = "pico"
FIRST_DISK = "data"
# What a new vm is on when neither its owner nor the home says so.
DEFAULT_NETWORKS: tuple[Joining, ...] = ()


@dataclass(frozen=True)
class CreateRequest:
    """What the user asks for; None takes the home's default, else the template's or appcat's. Sizes are in bytes."""

    name: str
    template: str | None = None
    cpus: int | None = None
    memory: int | None = None
    disks: tuple[tuple[str, int], ...] = ()
    ports: tuple[PortForward, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    restart: RestartPolicy | None = None
    autostart: bool = False
    networks: tuple[Joining, ...] | None = None


def admitted(ctx: Context, request: CreateRequest, **_: object) -> tuple[str]:
    """The vm that an operation is about to make; raises what ``create`` raises of a request that can never work."""
    check_request(ctx, with_defaults(ctx, request))
    return (request.name,)


def made(vm: Vm) -> dict[str, object]:
    """What an operation says of the vm it made."""
    return {"name": vm.name, "uuid": vm.uuid}


@tracked("create", admitted, made)
def create(ctx: Context, request: CreateRequest) -> Vm:
    """Make a vm, whole or not at all, and leave it powered off; builds its template when that is not there yet.

    Raises InvalidInput, AlreadyExists, NotFound, Conflict (an address is taken), InsufficientMemory, InsufficientSpace,
    and what a template build raises.
    """
    request = with_defaults(ctx, request)
    check_request(ctx, request)
    vm = make(ctx, request)
    neighbours.inform_of(ctx, [vm])
    return vm


def make(ctx: Context, request: CreateRequest, *, durable: bool = True, below: Mapping[str, Path] | None = None) -> Vm:
    """As ``create``, for a request that is complete and checked; the vms on its networks are not told of it yet.

    One that is not ``durable`` survives a power failure once it was synced (``VmStore.sync``). ``below`` are the
    layers that its disks stand on, by name, where those are not the image's.
    """
    stored = templates.ensure(ctx, template_of(request))
    plan_disks(request.disks, stored.image)
    user_key(ctx)
    make_private_directory(ctx.layout.vms)
    with locks.hold(ctx.layout.home_lock, f"create {request.name}", check=ctx.check):
        vm = _plan(ctx, request, stored.image)
        below = image_layers(ctx, stored) if below is None else below
        ctx.store.add(vm, lambda paths: _prepare(ctx, paths, vm, below), durable=durable)
    record(ctx, EventKind.VM_CREATED, vm, template=vm.template.name)
    return vm


def with_defaults(ctx: Context, request: CreateRequest) -> CreateRequest:
    """``request`` with what the home's configuration says where it says nothing; raises InvalidInput, Broken."""
    return replace(
        request,
        template=request.template or config.value_of(ctx, "template", check_name, DEFAULT_TEMPLATE),
        cpus=request.cpus if request.cpus is not None else config.value_of(ctx, "cpus", parse_cpus, None),
        memory=request.memory if request.memory is not None else config.value_of(ctx, "memory", parse_memory, None),
        restart=request.restart or config.value_of(ctx, "restart", parse_restart, RestartPolicy.NO),
        networks=_networks_of(ctx, request),
    )


def _networks_of(ctx: Context, request: CreateRequest) -> tuple[Joining, ...]:
    if request.networks is not None:
        return request.networks
    return config.value_of(ctx, "network", parse_networks, DEFAULT_NETWORKS)


def template_of(request: CreateRequest) -> str:
    """The template that a vm asked for so is made from."""
    return request.template or DEFAULT_TEMPLATE


def check_request(ctx: Context, request: CreateRequest) -> None:
    """Refuse what can never work before anything is built or written."""
    check_name(request.name)
    if ctx.layout.vm(request.name).root.exists():
        raise already_exists(request.name)
    templates.find(ctx, template_of(request))
    check_distinct(request.ports)
    check_distinct_disks(request.disks)
    addresses.check(ctx, request.networks or ())
    if request.cpus is not None:
        check_cpus(request.cpus, psutil.cpu_count() or 1)
    if request.memory is not None:
        check_total_memory(request.name, request.memory)
    make_private_directory(ctx.layout.home)
    check_space(ctx.layout.home)


def _plan(ctx: Context, request: CreateRequest, image: Image) -> Vm:
    vm = Vm(
        name=request.name,
        uuid=str(uuid.uuid4()),
        created=now(),
        template=TemplateRef(image.template, image.digest),
        machine=pinned_machine(image.arch),
        cpus=request.cpus or image.cpus,
        memory=request.memory or image.memory,
        machine_id=secrets.token_hex(16),
        login=image.login,
        ssh_port=SSH_PORT,  # until it has a spot
        nics=(Nic(addresses.random_mac()),),
        disks=plan_disks(request.disks, image),
        ports=_ports(request, image),
        restart=request.restart or RestartPolicy.NO,
        autostart=request.autostart,
        networks=addresses.place(ctx, request.networks or (), vm=request.name),
        owner=user_name(),
        labels=request.labels,
    )
    return Spots(ctx).give(vm)


def _ports(request: CreateRequest, image: Image) -> tuple[PortForward, ...]:
    """What is published: what the user asks for, and what the template says where the user does not."""
    own = [own_forward(number) for number in image.ports]
    return (*request.ports, *(port for port in own if not any(port.same(other) for other in request.ports)))


def _prepare(ctx: Context, paths: VmPaths, vm: Vm, below: Mapping[str, Path]) -> None:
    make_private_directory(paths.disks)
    make_disks(vm.disks, paths.disks, below)
    write_keys(ctx, paths, vm, SshKey.generate())


def write_keys(ctx: Context, paths: VmPaths, vm: Vm, key: SshKey) -> None:
    """Into a directory that is being made: the guest's host key, and how SSH clients get to know it."""
    write_atomic(paths.host_key, key.openssh, durable=False)
    write_atomic(paths.known_hosts, f"{vm.name} {key.public_line}\n", durable=False)
    write_atomic(paths.ssh_config, ssh_config.block(ctx, vm), durable=False)
