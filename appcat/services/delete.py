"""``delete``: a vm leaves the inventory, its files and sockets go."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from appcat.errors import Broken, WrongState
from appcat.model.event import EventKind
from appcat.model.shapes import VmInfo
from appcat.model.vm import CloneKind
from appcat.services import cables, docker_contexts, neighbours
from appcat.services.bases import sweep, sweep_layers
from appcat.services.context import Context
from appcat.services.events import record
from appcat.services.expecting import expectation
from appcat.services.flatten import check_no_linked_clones
from appcat.services.observe import is_alive
from appcat.services.operations import existing, tracked
from appcat.services.settle import settle
from appcat.services.stop import kill, kill_and_settle
from appcat.store import locks
from appcat.store.files import remove_tree


def children_first(names: Sequence[str], known: Sequence[VmInfo]) -> list[list[str]]:
    """``names`` in groups to be deleted one after another: linked clones before what they stand on.

    Those that are not ``known``, or broken, have no place of their own.
    """
    vms = {vm["name"]: vm for vm in known}
    groups, left = [], list(names)
    while left:
        found = (vms[name].get("parent") for name in left if name in vms)
        parents = {parent["uuid"] for parent in found if parent and parent["kind"] == CloneKind.LINKED}
        group = [name for name in left if name not in vms or vms[name].get("uuid") not in parents]
        groups.append(group or left)
        left = [name for name in left if name not in groups[-1]]
    return groups


@tracked("delete", existing)
def delete(ctx: Context, name: str, *, force: bool = False) -> None:
    """Remove a stopped vm with all its data; ``force`` also ends a running one and removes a broken one.

    Raises NotFound, Busy, Stale, WrongState when it runs, HasClones while linked clones stand on it, Broken when its
    file cannot be read.
    """
    paths = ctx.store.find(name)
    expectation().check(ctx, name)
    with contextlib.suppress(Broken):
        check_no_linked_clones(ctx, ctx.store.load(name))
    if force:
        kill(ctx, name)
    with locks.hold(paths.op_lock, "delete", check=ctx.check):
        expectation().check(ctx, name)
        if force:
            kill_and_settle(ctx, name)
        elif is_alive(ctx, name):
            raise WrongState(
                f"{name} is running", hint=f"stop it first, or: appcat vm delete --force {name}", code="vm-running"
            )
        vm = None
        try:
            vm = ctx.store.load(name)
            uuid = vm.uuid
        except Broken as error:
            if not force:
                error.hint = f"if you do not need it any more: appcat vm delete --force {name}"
                raise
            run = ctx.store.load_run(name)
            uuid = run.uuid if run else ""
        settle(ctx, name)
        ctx.store.remove(name)
        docker_contexts.remove(name, uuid)
        record(ctx, EventKind.VM_DELETED, name, uuid=uuid)
        if uuid:
            remove_tree(ctx.layout.runtime(uuid).root)
            cables.forget(ctx, uuid)
    if vm:
        neighbours.inform_of(ctx, [vm])
    sweep(ctx)
    sweep_layers(ctx)
