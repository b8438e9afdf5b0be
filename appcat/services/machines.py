"""Putting a QEMU together: what every way to start one has in common."""

from __future__ import annotations

import dataclasses
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from appcat.errors import QemuError
from appcat.model.machine import SHARE_SLOTS, Boot, Purpose, SwitchPort, Wiring
from appcat.model.port import PortForward
from appcat.model.run import Run
from appcat.model.vm import Vm
from appcat.qemu import argv, process
from appcat.qemu.monitor import Monitor, MonitorError, MonitorGone
from appcat.services import templates
from appcat.services.context import Context, now
from appcat.store.boot import boot_id
from appcat.store.files import claim_runtime_directory, make_private_directory, remove_tree
from appcat.store.images import StoredImage
from appcat.store.layout import BasePaths, RuntimePaths, VmPaths

MONITOR_DEADLINE = 30.0
POLL = 0.005


def image_of(ctx: Context, vm: Vm) -> StoredImage:
    """The vm's image; when the cache has lost it, the template as it builds today."""
    return templates.image_of(ctx, vm.template.image) or templates.ensure(ctx, vm.template.name)


def boot_of(stored: StoredImage) -> Boot:
    """What a machine with this image starts from."""
    return Boot(stored.vmlinux, stored.rootfs, stored.image.arguments)


def wiring_of(
    ctx: Context,
    vm: Vm,
    runtime: RuntimePaths,
    files: VmPaths | BasePaths,
    purpose: Purpose,
    *,
    memory: Path | None = None,
    plugged: dict[str, str] | None = None,
    ports: Sequence[SwitchPort] = (),
    internet: bool = True,
    forwards: Sequence[PortForward] = (),
    disks: Sequence[Path] | None = None,
) -> Wiring:
    """What one run of ``vm`` is connected to: sockets in ``runtime``, logs in ``files``, the vm's own disks unless
    others are given, and ``ports`` of the switch, one for each of its networks.
    """
    own = [ctx.layout.vm(vm.name).disks / disk.file for disk in vm.disks]
    return Wiring(
        monitor=runtime.monitor,
        status=runtime.status,
        events=runtime.events,
        agent=runtime.agent,
        guest=runtime.guest,
        console=runtime.console,
        console_log=files.console_log,
        identity=files.identity,
        shares=tuple(runtime.share(slot) for slot in range(SHARE_SLOTS)),
        disks=tuple(own if disks is None else disks),
        purpose=purpose,
        memory=memory,
        plugged=plugged or {},
        ports=tuple(ports),
        internet=internet,
        forwards=tuple(forwards),
    )


def claim_runtime(runtime: RuntimePaths) -> None:
    """An empty directory for the sockets of one run; raises Unavailable when somebody else prepared its place."""
    claim_runtime_directory(runtime.root.parent)
    remove_tree(runtime.root)
    make_private_directory(runtime.root)


def spawn_recorded(
    ctx: Context, vm: Vm, command: list[str], inherit: Sequence[int], base: str | None = None, backend: str = ""
) -> subprocess.Popen[bytes]:
    """Start QEMU for a vm: the run is noted before it begins, its process id as soon as there is one.

    ``base`` is the id of the base it begins in, ``backend`` the kind of switch its networks go through.
    """
    record = Run(
        uuid=vm.uuid,
        boot_id=boot_id(),
        started=now(),
        argv=tuple(command),
        qemu_version=ctx.host.qemu.version,
        accelerator=ctx.host.accelerator,
        cpu=argv.cpu_model(vm.machine.arch, ctx.host.accelerator),
        base=base,
        begun=base is None,
        backend=backend,
    )
    ctx.store.save_run(vm.name, record)
    child = process.spawn(command, ctx.layout.vm(vm.name).qemu_log, inherit)
    try:
        ctx.store.save_run(
            vm.name, dataclasses.replace(record, pid=child.pid, pid_started=process.started_at(child.pid))
        )
    except BaseException:
        child.kill()
        child.wait()
        raise
    return child


def await_monitor(runtime: RuntimePaths, child: subprocess.Popen[bytes]) -> Monitor | None:
    """The monitor of a QEMU just spawned, once it has come up; None when it has not, and it is ended then."""
    deadline = time.monotonic() + MONITOR_DEADLINE
    while True:
        try:
            return Monitor(runtime.monitor, timeout=MONITOR_DEADLINE)
        except MonitorGone:
            if child.poll() is not None:
                return None
            if time.monotonic() > deadline:
                break
        except MonitorError:
            break
        time.sleep(POLL)
    child.kill()
    child.wait()
    return None


def not_started(what: str, log: Path) -> QemuError:
    """The error for a QEMU that did not come up, with its own words."""
    output = process.output_of(log)
    reason = output.splitlines()[-1] if output else "it said nothing"
    return QemuError(f"QEMU did not start {what}: {reason}", hint="'appcat doctor' checks this host", details=output)
