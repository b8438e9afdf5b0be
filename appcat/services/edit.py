"""``edit``, ``label`` and ``rename``: changing what a vm is."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psutil

from appcat.errors import InvalidInput
from appcat.model.event import EventKind
from appcat.model.name import check_name
from appcat.model.vm import RestartPolicy, Vm, check_cpus
from appcat.services import docker_contexts, neighbours
from appcat.services.admission import check_total_memory
from appcat.services.changing import changing
from appcat.services.context import Context
from appcat.services.disks import check_growth, grow_disk
from appcat.services.events import record
from appcat.services.ssh_config import write_known_hosts, write_ssh_config
from appcat.services.states import require_stopped
from appcat.store import locks
from appcat.store.vms import already_exists


@dataclass(frozen=True)
class Changes:
    """What to change; None leaves it. ``memory`` is in bytes. Processors and memory need a stopped vm.

    ``disks`` are names of disks and what they are to grow to, in bytes: on a running vm too.
    """

    cpus: int | None = None
    memory: int | None = None
    restart: RestartPolicy | None = None
    autostart: bool | None = None
    disks: tuple[tuple[str, int], ...] = ()

    def given(self) -> dict[str, Any]:
        """The fields of ``vm.json`` that change at once."""
        fields = {key: value for key, value in dataclasses.asdict(self).items() if value is not None}
        del fields["disks"]
        return fields


def edit(ctx: Context, name: str, changes: Changes) -> Vm:
    """Change a vm and return it.

    Raises InvalidInput, InsufficientMemory, WrongState, NotFound, Broken, Busy, and what ``grow_disk`` raises.
    """
    ctx.store.find(name)
    given = changes.given()
    if not given and not changes.disks:
        raise InvalidInput("there is nothing to change", hint="see 'appcat vm edit --help'")
    if changes.cpus is not None:
        check_cpus(changes.cpus, psutil.cpu_count() or 1)
    if changes.memory is not None:
        check_total_memory(name, changes.memory)
    if changes.disks:
        check_growth(ctx, ctx.store.load(name), changes.disks)
    vm = _edit_fields(ctx, name, changes, given) if given else ctx.store.load(name)
    for disk, size in changes.disks:
        vm = grow_disk(ctx, name, disk, size)
    return vm


def _edit_fields(ctx: Context, name: str, changes: Changes, given: Mapping[str, Any]) -> Vm:
    with changing(ctx, name, "edit") as vm:
        if changes.cpus is not None or changes.memory is not None:
            require_stopped(ctx, name, "processors and memory can be changed")
        changed = dataclasses.replace(vm, **given)
        ctx.store.save(changed)
        record(ctx, EventKind.VM_EDITED, changed, **given)
        return changed


def label(ctx: Context, name: str, add: Mapping[str, str], remove: Sequence[str] = ()) -> Vm:
    """Set labels and take others away, which need not be there; raises NotFound, Broken, Busy."""
    with changing(ctx, name, "label") as vm:
        kept = {key: value for key, value in vm.labels.items() if key not in remove}
        changed = dataclasses.replace(vm, labels={**kept, **add})
        ctx.store.save(changed)
        record(ctx, EventKind.VM_LABELLED, changed, labels=dict(add), removed=list(remove))
        return changed


def rename(ctx: Context, name: str, new: str) -> Vm:
    """Give a stopped vm, and with it its guest, another name; its disks, keys, addresses and ports stay.

    Raises InvalidInput, AlreadyExists, WrongState, NotFound, Broken, Busy.
    """
    check_name(new)
    if new == name:
        raise InvalidInput(f"{name} is its name already", hint="give another one")
    with changing(ctx, name, "rename") as vm, locks.hold(ctx.layout.home_lock, f"rename {name}"):
        if ctx.layout.vm(new).root.exists():
            raise already_exists(new)
        require_stopped(ctx, name, "it can be renamed")
        # Both names until it is done: whatever cuts this off, the key is known under the one that stays.
        write_known_hosts(ctx.layout.vm(name), [name, new])
        renamed = ctx.store.rename(vm, new)
        write_known_hosts(ctx.layout.vm(new), [new])
        write_ssh_config(ctx, renamed)
        docker_contexts.follow(ctx, vm, renamed)
        record(ctx, EventKind.VM_RENAMED, renamed, **{"from": name})
    neighbours.inform_of(ctx, [renamed])
    return renamed
