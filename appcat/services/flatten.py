"""``flatten``: a linked clone becomes independent of what it was made from."""

from __future__ import annotations

import contextlib
import dataclasses

from appcat.errors import AppcatError, Conflict
from appcat.model.event import EventKind
from appcat.model.vm import CloneKind, Vm
from appcat.qemu import img
from appcat.qemu.monitor import Monitor
from appcat.services import overlays
from appcat.services.admission import check_space
from appcat.services.bases import layers, sweep_layers
from appcat.services.changing import changing
from appcat.services.context import Context
from appcat.services.disks import settle_disks
from appcat.services.events import record
from appcat.services.observe import is_alive
from appcat.services.operations import existing, tracked


class HasClones(Conflict):
    """Linked clones stand on the vm."""

    code = "has-linked-clones"


def check_no_linked_clones(ctx: Context, vm: Vm) -> None:
    """Raise HasClones while linked clones of ``vm`` have not been made independent."""
    found = []
    for name in ctx.store.names():
        with contextlib.suppress(AppcatError):
            parent = ctx.store.load(name).parent
            if parent and parent.uuid == vm.uuid and parent.kind is CloneKind.LINKED:
                found.append(name)
    if found:
        raise HasClones(
            f"{vm.name} has linked clones: {', '.join(found)}",
            hint=f"delete them, or make them independent: appcat vm flatten {' '.join(found)}",
        )


@tracked("flatten", existing, lambda changed: {"changed": changed})
def flatten(ctx: Context, name: str) -> bool:
    """Give a vm disks that stand on nothing; False when they do already. Works while it runs.

    Raises NotFound, Broken, Busy, InsufficientSpace, QemuError.
    """
    with changing(ctx, name, "flatten") as vm:
        disks = [ctx.layout.vm(name).disks / disk.file for disk in vm.disks]
        chains = [layers(ctx).chain(disk) for disk in disks]
        check_space(ctx.layout.home, sum(img.allocated(file) for chain in chains for file in chain[1:]))
        stands = any(len(chain) > 1 for chain in chains)
        if is_alive(ctx, name):
            with Monitor(ctx.layout.runtime(vm.uuid).monitor) as monitor:
                overlays.flatten_running(ctx, vm, monitor)
        else:
            settle_disks(ctx, vm)
            for disk in disks:
                img.merge_down_to(disk, None, ctx.check)
        if vm.parent and vm.parent.kind is not CloneKind.FULL:
            ctx.store.save(dataclasses.replace(vm, parent=dataclasses.replace(vm.parent, kind=CloneKind.FULL)))
        if stands:
            record(ctx, EventKind.VM_FLATTENED, vm)
    sweep_layers(ctx)
    return stands
