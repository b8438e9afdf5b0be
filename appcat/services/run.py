"""``run``: create, start, wait, and run a command, in one go."""

from __future__ import annotations

from collections.abc import Collection

from appcat.errors import AppcatError, InsufficientSpace
from appcat.model.image import Image
from appcat.model.machine import HOTPLUG_PORTS
from appcat.model.vm import Vm
from appcat.services import guests, keeping, neighbours, templates
from appcat.services.admission import check_clones, check_memory, check_number, check_port
from appcat.services.bases import layers
from appcat.services.begin import begin
from appcat.services.context import Context
from appcat.services.create import (
    CreateRequest,
    admitted,
    check_request,
    create,
    made,
    make,
    template_of,
    with_defaults,
)
from appcat.services.operations import tracked
from appcat.services.patience import READY_DEADLINE
from appcat.services.warm import warm_base
from appcat.store import locks


@tracked("run", admitted, made)
def run(
    ctx: Context,
    request: CreateRequest,
    *,
    ready_within: float = READY_DEADLINE,
    remove: bool = False,
    instant: bool = False,
) -> Vm:
    """Create a vm and bring it to where its guest agent answers; ``instant``, from the warm template's memory.

    What would keep it from starting (memory, ports) is refused before it is created. Raises what ``create`` and
    ``start`` raise; a vm whose start fails stays, powered off or as it is, to be looked at, unless ``remove``.
    Without room for a warm template, or on the machine for all that would be plugged in afterwards, the vm starts cold,
    and says so.
    """
    request = with_defaults(ctx, request)
    check_run(ctx, request)
    if instant and len(request.disks) + len(request.networks or ()) > HOTPLUG_PORTS:
        ctx.progress(f"{request.name} starts cold: it has more disks than can be plugged in", 0, 0)
    elif instant:
        try:
            return _run_warm(ctx, request)
        except (InsufficientSpace, _ColdError) as error:
            ctx.progress(f"{request.name} starts cold: {error.message}", 0, 0)
    if request.memory is not None:
        check_memory(ctx, request.memory)
    return _run_cold(ctx, request, ready_within, remove)


def check_run(ctx: Context, request: CreateRequest) -> None:
    """Refuse what can never work, or not now, before anything is built or written; ``request`` is with defaults."""
    check_request(ctx, request)
    for forward in request.ports:
        if forward.is_own:
            check_number(forward)
        else:
            check_port(ctx, request.name, forward)


def _run_cold(ctx: Context, request: CreateRequest, ready_within: float, remove: bool) -> Vm:
    from appcat.services.start import start

    create(ctx, request)
    try:
        return start(ctx, request.name, ready_within=ready_within).vm
    except BaseException:
        if remove:
            _delete(ctx.undisturbed(), request.name)
        raise


class _ColdError(AppcatError):
    """A warm template is no help."""


def _run_warm(ctx: Context, request: CreateRequest) -> Vm:
    """A vm that fails to begin is gone again: it never was one."""
    stored = templates.ensure(ctx, template_of(request))
    if larger := {disk.name for disk in stored.image.disks} & set(dict(request.disks)):
        raise _ColdError(f"a warm template's disk {min(larger)} has the size it has")
    cpus, memory = _size(stored.image, request)
    check_clones(ctx, [memory])
    with warm_base(ctx, stored, cpus, memory, len(request.networks or ())) as (base, use):
        below = {disk.name: layers(ctx).path(disk.file) for disk in base.vm.disks}
        vm = make(ctx, request, durable=False, below=below)
        try:
            with locks.hold(ctx.layout.vm(vm.name).op_lock, "run"):
                vm = begin(ctx, vm, base, use)
                _plug_disks(ctx, vm, set(below))
        except BaseException:
            _delete(ctx.undisturbed(), vm.name)
            raise
    neighbours.inform_of(ctx, [vm])
    keeping.ensure(ctx)
    return vm


def _plug_disks(ctx: Context, vm: Vm, there: Collection[str]) -> None:
    """A warm template has only the image's disks. A guest that cannot mount the others is of no use: what it writes
    there would be lost.
    """
    others = [disk for disk in vm.disks if disk.name not in there]
    if others:
        from appcat.services.disks import plug

        plug(ctx, vm, others)
        guests.announce_disks(ctx, vm)


def _delete(ctx: Context, name: str) -> None:
    from appcat.services.delete import delete

    delete(ctx, name, force=True)


def _size(image: Image, request: CreateRequest) -> tuple[int, int]:
    return request.cpus or image.cpus, request.memory or image.memory
