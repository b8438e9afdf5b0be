"""A vm as plain data for programs: what ``--json`` prints."""

from __future__ import annotations

from typing import Any

from appcat.model.codec import encode
from appcat.model.status import Observation, Status
from appcat.model.vm import Vm
from appcat.services.context import Context


def describe(seen: Observation) -> dict[str, Any]:
    """The parts every listing shows. Keys are stable; new ones may come."""
    head = {"name": seen.name, "status": str(seen.status), "detail": seen.detail}
    return head if seen.vm is None else {**head, **_spec(seen.vm)}


def describe_fully(ctx: Context, seen: Observation) -> dict[str, Any]:
    """All there is to say of one vm, with the files to look at."""
    paths = ctx.layout.vm(seen.name)
    files = {"directory": paths.root, "console_log": paths.console_log, "qemu_log": paths.qemu_log}
    alive = seen.status not in (Status.STOPPED, Status.BROKEN)
    return {
        **describe(seen),
        "run": encode(seen.run) if seen.run and alive else None,
        "last_exit": encode(seen.last_exit),
        **{key: str(path) for key, path in files.items()},
    }


def _spec(vm: Vm) -> dict[str, Any]:
    return {
        "uuid": vm.uuid,
        "template": vm.template.name,
        "image": vm.template.image,
        "cpus": vm.cpus,
        "memory": vm.memory,
        "machine": vm.machine.type,
        "ssh": {"address": vm.ssh_forward.address, "port": vm.ssh_port, "user": vm.login},
        "ports": [encode(port) for port in vm.ports],
        "disks": [encode(disk) for disk in vm.disks],
        "mac": vm.nics[0].mac,
        "restart": str(vm.restart),
        "autostart": vm.autostart,
        "labels": vm.labels,
        "owner": vm.owner,
        "node": vm.node,
        "created": vm.created,
    }
