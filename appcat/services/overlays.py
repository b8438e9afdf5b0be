"""Freezing disks: what a vm wrote so far becomes a layer, what it writes from then on goes to an overlay of its own.

``vm.json`` names the overlay before QEMU switches to it. Cut off in between, QEMU goes on writing to what it has open,
and the next start finds the same content through the overlay. So what a living QEMU really writes to is always asked of
QEMU, never read from ``vm.json``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appcat.errors import AppcatError, Cancelled, QemuError
from appcat.model.vm import Disk, Vm
from appcat.qemu import img
from appcat.qemu.argv import disk_id, disk_node
from appcat.qemu.monitor import Monitor, MonitorSilent
from appcat.services.admission import check_space
from appcat.services.bases import layers
from appcat.services.context import Context
from appcat.store import locks
from appcat.store.files import unlink

log = logging.getLogger(__name__)

# Files in one disk's chain, the writable one included: each costs descriptors, memory and a look-up per read.
DEEPEST = 8
MERGE_PATIENCE = 3600.0
# Pseudo-protocol of QEMU's block layer (qemu-block-drivers(7)): a node's options instead of a path.
DESCRIPTION = "json:"


@dataclass(frozen=True)
class Live:
    """What a running QEMU has as a disk: the block node its device uses, and the file of that node."""

    node: str
    file: Path


@dataclass(frozen=True)
class Overlay:
    """One disk about to be frozen: ``below`` is written to now, ``disk`` and ``node`` from the switch on."""

    below: Live
    layer: Path
    disk: Disk
    node: str


def live_disk(monitor: Monitor, disk: Disk) -> Live | None:
    """What QEMU has open for ``disk`` now; None when it has no such disk."""
    wanted = f"/{disk_id(disk.name)}-device/"
    for block in monitor.execute("query-block"):
        if wanted in block.get("qdev", "") and "inserted" in block:
            return Live(block["inserted"]["node-name"], file_in(block["inserted"]["file"]))
    return None


def file_in(name: str) -> Path:
    """The file that a block node is stored in: QEMU gives its path, or a description when it was put together."""
    while name.startswith(DESCRIPTION):
        inner = json.loads(name.removeprefix(DESCRIPTION))["file"]
        name = inner if isinstance(inner, str) else inner["filename"]
    return Path(name)


def prepare(ctx: Context, vm: Vm, monitor: Monitor) -> tuple[Vm, tuple[Overlay, ...]]:
    """Lay an overlay beside each disk of a running vm, name them in ``vm.json``, have QEMU open them.

    Gives the vm as it is then written down. Raises InsufficientSpace, Broken, QemuError, having undone all.
    """
    made: list[Overlay] = []
    check_space(ctx.layout.vm(vm.name).disks.parent)
    try:
        with locks.hold(ctx.layout.home_lock, f"freeze {vm.name}"):
            for disk in vm.disks:
                made.append(_lay(ctx, vm, disk, _live(monitor, vm, disk)))
        changed = dataclasses.replace(vm, disks=tuple(overlay.disk for overlay in made))
        if made:
            ctx.store.save(changed)
        for overlay in made:
            monitor.execute("blockdev-add", **_node(ctx, vm, overlay))
    except BaseException:
        revert(ctx, vm, tuple(made), monitor)
        raise
    return changed, tuple(made)


def switch(monitor: Monitor, overlays: tuple[Overlay, ...]) -> None:
    """Have a halted QEMU write to the overlays from now on: all of them, or none."""
    if overlays:
        actions = [
            {"type": "blockdev-snapshot", "data": {"node": overlay.below.node, "overlay": overlay.node}}
            for overlay in overlays
        ]
        monitor.execute("transaction", actions=actions)


def revert(ctx: Context, vm: Vm, overlays: tuple[Overlay, ...], monitor: Monitor | None) -> None:
    """Undo ``prepare`` where QEMU has not switched; where that cannot be known, the overlays stay: they do no harm."""
    if not overlays:
        return
    try:
        if monitor is not None:
            if any((live := live_disk(monitor, o.disk)) and live.node == o.node for o in overlays):
                return
            for overlay in overlays:
                with contextlib.suppress(AppcatError):
                    monitor.execute("blockdev-del", node_name=overlay.node)
        ctx.store.save(vm)
        for overlay in overlays:
            unlink(ctx.layout.vm(vm.name).disks / overlay.disk.file)
    except AppcatError as error:
        log.warning("overlays of %s stay: %s", vm.name, error)


def freeze_stopped(ctx: Context, vm: Vm) -> tuple[Vm, tuple[Path, ...]]:
    """Freeze the disks of a stopped vm; the vm with its overlays, and the layers. The caller holds its ``op.lock``."""
    with locks.hold(ctx.layout.home_lock, f"freeze {vm.name}"):
        overlays = []
        for disk in vm.disks:
            path = ctx.layout.vm(vm.name).disks / disk.file
            if len(layers(ctx).chain(path)) >= DEEPEST:
                img.merge_down_to(path, layers(ctx).chain(path)[-1], ctx.check)
            overlays.append(_lay(ctx, vm, disk, Live("", path)))
        changed = dataclasses.replace(vm, disks=tuple(overlay.disk for overlay in overlays))
        ctx.store.save(changed)
        for disk in vm.disks:
            unlink(ctx.layout.vm(vm.name).disks / disk.file)
    return changed, tuple(overlay.layer for overlay in overlays)


def shorten(ctx: Context, vm: Vm, monitor: Monitor) -> None:
    """Before one more layer comes: where a running vm's chain is long, merge all but the lowest file into its top.

    The lowest is kept, since it is what most others stand on. Raises QemuError.
    """
    for disk in vm.disks:
        live = _live(monitor, vm, disk)
        chain = _nodes_below(monitor, live)
        if len(chain) >= DEEPEST:
            below = layers(ctx).chain(live.file)[-1]
            _stream(ctx, monitor, live, chain[-1], os.path.relpath(below, live.file.parent))
            for node in chain[1:-1]:
                forget_node(monitor, node)


def flatten_running(ctx: Context, vm: Vm, monitor: Monitor) -> None:
    """Have each disk of a running vm stand on nothing. Raises QemuError."""
    for disk in vm.disks:
        live = _live(monitor, vm, disk)
        chain = _nodes_below(monitor, live)
        if len(chain) > 1:
            _stream(ctx, monitor, live, None, "")
            for node in chain[1:]:
                forget_node(monitor, node)


def forget_node(monitor: Monitor, node: str) -> None:
    """Close a block node that is no longer needed; one that QEMU opened by itself goes by itself."""
    with contextlib.suppress(AppcatError):
        monitor.execute("blockdev-del", node_name=node)


def close_chain(monitor: Monitor, live: Live) -> None:
    """Close a disk's node, its device being gone, and those below it. Raises QemuError."""
    chain = _nodes_below(monitor, live)
    monitor.execute("blockdev-del", node_name=chain[0])
    for node in chain[1:]:
        forget_node(monitor, node)


def _live(monitor: Monitor, vm: Vm, disk: Disk) -> Live:
    live = live_disk(monitor, disk)
    if live is None:
        raise QemuError(f"the QEMU of {vm.name} does not have its disk {disk.name}", hint=f"restart {vm.name}")
    return live


def _lay(ctx: Context, vm: Vm, disk: Disk, below: Live) -> Overlay:
    """Make the layer and the overlay; the caller holds the allocation lock."""
    token = secrets.token_hex(4)
    layer = layers(ctx).add(below.file)
    above = dataclasses.replace(disk, file=f"{disk.name}-{token}.qcow2")
    img.create(ctx.layout.vm(vm.name).disks / above.file, disk.size, backing=layer)
    return Overlay(below, layer, above, f"{disk_id(disk.name)}-{token}")


def _node(ctx: Context, vm: Vm, overlay: Overlay) -> dict[str, Any]:
    """As ``blockdev-snapshot`` wants it: open, standing on nothing yet."""
    node = disk_node(overlay.disk, ctx.layout.vm(vm.name).disks / overlay.disk.file)
    return {**node, "node-name": overlay.node, "backing": None}


def _nodes_below(monitor: Monitor, live: Live) -> list[str]:
    """The qcow2 nodes of a disk as QEMU has them, the top first."""
    nodes = monitor.execute("query-named-block-nodes", flat=True)
    by_file = {node["file"]: node for node in nodes if node.get("drv") == "qcow2"}
    found, names = next(node for node in nodes if node.get("node-name") == live.node), [live.node]
    while (below := found.get("backing_file")) and below in by_file:
        found = by_file[below]
        names.append(found["node-name"])
    return names


def _stream(ctx: Context, monitor: Monitor, live: Live, base: str | None, name: str) -> None:
    """Copy what is below into the top; it then stands on the node ``base``, called ``name`` in its header."""
    onto: dict[str, Any] = {"base_node": base, "backing_file": name} if base else {}
    job = f"merge-{live.node}"
    monitor.execute("block-stream", job_id=job, device=live.node, **onto)
    try:
        while True:
            event = monitor.next_event(MERGE_PATIENCE, ctx.check)
            if event["event"].startswith("BLOCK_JOB_") and event["data"].get("device") == job:
                if event["event"] == "BLOCK_JOB_COMPLETED" and not event["data"].get("error"):
                    return
                if event["event"] in ("BLOCK_JOB_COMPLETED", "BLOCK_JOB_CANCELLED"):
                    reason = event["data"].get("error", "cancelled")
                    raise QemuError(
                        f"disk layers could not be merged: {reason}", hint="the disk is as before: try again"
                    )
    except Cancelled:
        with contextlib.suppress(AppcatError):
            monitor.execute("block-job-cancel", device=job)
        raise
    except MonitorSilent as error:
        raise QemuError("merging disk layers takes too long", hint="try again when the host is less busy") from error
