"""``delete``: a vm leaves the inventory, its files and sockets go."""

from __future__ import annotations

from appcat.errors import Broken, WrongState
from appcat.services.context import Context
from appcat.services.observe import is_alive
from appcat.services.settle import settle
from appcat.services.stop import kill, kill_and_settle
from appcat.store import locks
from appcat.store.files import remove_tree
from appcat.store.layout import RuntimePaths


def delete(ctx: Context, name: str, *, force: bool = False) -> None:
    """Remove a stopped vm with all its data; ``force`` also ends a running one and removes a broken one.

    Raises NotFound, Busy, WrongState when it runs, Broken when its file cannot be read.
    """
    paths = ctx.store.find(name)
    if force:
        kill(ctx, name)
    with locks.hold(paths.op_lock, "delete"):
        if force:
            kill_and_settle(ctx, name)
        elif is_alive(ctx, name):
            raise WrongState(
                f"{name} is running", hint=f"stop it first, or: appcat vm delete --force {name}", code="vm-running"
            )
        runtime: RuntimePaths | None
        try:
            runtime = ctx.layout.runtime(ctx.store.load(name).uuid)
        except Broken as error:
            if not force:
                error.hint = f"if you do not need it any more: appcat vm delete --force {name}"
                raise
            run = ctx.store.load_run(name)
            runtime = ctx.layout.runtime(run.uuid) if run else None
        settle(ctx, name)
        ctx.store.remove(name)
        if runtime:
            remove_tree(runtime.root)
