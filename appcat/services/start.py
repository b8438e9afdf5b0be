"""``start``: from a vm on disk to a QEMU that runs it, and to a guest that answers."""

from __future__ import annotations

import dataclasses
import logging
import os
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from appcat.errors import AppcatError, DeadlineExceeded, PortInUse, QemuError
from appcat.model.machine import SHARE_SLOTS, Boot, Wiring
from appcat.model.run import Exit, ExitCause, Run
from appcat.model.vm import TemplateRef, Vm
from appcat.qemu import argv, process
from appcat.qemu.agent import Agent
from appcat.qemu.monitor import Monitor, MonitorError, MonitorGone
from appcat.services import admission, keeping, templates
from appcat.services.context import Context, now
from appcat.services.guests import identity_document
from appcat.services.observe import ended_by, qemu_last_words, qemu_output
from appcat.services.settle import adopt, settle
from appcat.store import locks
from appcat.store.boot import boot_id
from appcat.store.files import claim_runtime_directory, make_private_directory, remove_tree, write_atomic
from appcat.store.images import StoredImage
from appcat.store.layout import RuntimePaths

log = logging.getLogger(__name__)

MONITOR_DEADLINE = 30.0
READY_DEADLINE = 180.0
PORT_ATTEMPTS = 5
_FORWARD_FAILED = re.compile(r"host forwarding rule '(?P<protocol>tcp|udp):[0-9.]*:(?P<port>\d+)-")


@dataclass(frozen=True)
class Started:
    """What ``start`` did: ``already`` when the vm was running before."""

    vm: Vm
    already: bool


class EndedEarly(QemuError):
    """QEMU ended before its guest answered."""

    code = "ended-early"


def start(ctx: Context, name: str, *, ready_within: float | None = READY_DEADLINE) -> Started:
    """Start a vm and wait until its guest agent answers, ``ready_within`` seconds at most; None does not wait.

    A vm that runs already is left alone, and waited for all the same; one that was on its way down is started anew.
    Raises NotFound, Busy, Broken, PortInUse, InsufficientMemory, MissingTool, QemuError; DeadlineExceeded leaves the
    vm running.
    """
    ctx.store.find(name)
    started = _ensure_running(ctx, name)
    if ready_within is None:
        return started
    try:
        wait_ready(ctx, started.vm, ready_within)
    except EndedEarly:
        if not started.already:
            raise
        started = _ensure_running(ctx, name)
        wait_ready(ctx, started.vm, ready_within)
    return started


def _ensure_running(ctx: Context, name: str) -> Started:
    with locks.hold(ctx.layout.vm(name).op_lock, "start"):
        vm = ctx.store.load(name)
        already = adopt(ctx, name) is not None
        if not already:
            settle(ctx, name)
            vm = _launch(ctx, vm)
    keeping.ensure(ctx)
    return Started(vm, already)


def wait_ready(ctx: Context, vm: Vm, timeout: float = READY_DEADLINE) -> None:
    """Wait until the guest agent of a running vm answers.

    Raises DeadlineExceeded after ``timeout`` seconds, EndedEarly when QEMU ends before.
    """
    ctx.progress(f"waiting for the guest of {vm.name}", 0, 0)
    paths = ctx.layout.vm(vm.name)
    try:
        with (
            locks.hold(paths.agent_lock, "wait for the guest", wait=timeout),
            Agent(ctx.layout.runtime(vm.uuid).agent, timeout),
        ):
            return
    except DeadlineExceeded as error:
        error.details = console_tail(paths.console_log)
        raise
    except AppcatError as error:
        # A QEMU that ends closes its sockets a moment before its lock.
        if not ended_by(ctx, vm.name, time.monotonic() + 2.0):
            raise
        words = qemu_last_words(ctx, vm.name)
        raise EndedEarly(
            f"the QEMU of {vm.name} ended while its guest was starting" + (f": {words}" if words else ""),
            hint=f"see 'appcat vm show {vm.name}' and {paths.console_log}",
            details=console_tail(paths.console_log),
        ) from error


def console_tail(path: Path, lines: int = 15) -> str:
    """The last lines of a console log."""
    try:
        return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    except OSError:
        return ""


def _launch(ctx: Context, vm: Vm) -> Vm:
    admission.check_memory(ctx, vm.memory)
    admission.check_space(ctx.layout.home)
    admission.check_ports(ctx, vm)
    stored = _image_of(ctx, vm)
    if stored.image.digest != vm.template.image:
        vm = dataclasses.replace(vm, template=TemplateRef(vm.template.name, stored.image.digest))
        ctx.store.save(vm)
    for _ in range(PORT_ATTEMPTS):
        try:
            _run_qemu(ctx, vm, stored)
            return vm
        except _PortTakenError as taken:
            if taken.forward != (vm.ssh_forward.protocol, vm.ssh_port):
                admission.check_ports(ctx, vm)
            vm = _with_new_ssh_port(ctx, vm)
    raise PortInUse(f"no host port could be had for {vm.name}", hint="see which ports are in use: ss -ltn")


class _PortTakenError(Exception):
    """Somebody took a host port between our look and QEMU's claim."""

    def __init__(self, protocol: str, port: int) -> None:
        super().__init__(port)
        self.forward = (protocol, port)


def _image_of(ctx: Context, vm: Vm) -> StoredImage:
    """The vm's image; when the cache has lost it, the template as it builds today."""
    return templates.image_of(ctx, vm.template.image) or templates.ensure(ctx, vm.template.name)


def _with_new_ssh_port(ctx: Context, vm: Vm) -> Vm:
    with locks.hold(ctx.layout.home_lock, f"start {vm.name}"):
        port = admission.free_ssh_port(admission.ssh_ports(ctx), vm.ssh_port - admission.FIRST_SSH_PORT + 1)
        moved = dataclasses.replace(vm, ssh_port=port)
        ctx.store.save(moved)
    log.info("the SSH port of %s moves from %d to %d", vm.name, vm.ssh_port, port)
    return moved


def _run_qemu(ctx: Context, vm: Vm, stored: StoredImage) -> None:
    """Spawn QEMU and wait for its monitor; on failure nothing of it is left but its log."""
    ctx.progress(f"starting {vm.name}", 0, 0)
    paths, runtime = ctx.layout.vm(vm.name), ctx.layout.runtime(vm.uuid)
    _fresh_runtime(runtime)
    write_atomic(paths.identity, identity_document(ctx, vm, stored.image))
    command = argv.argv(vm, _boot(stored), _wiring(ctx, vm), ctx.host)
    lock = locks.open_lock(paths.run_lock)
    try:
        if not locks.lock_within(lock, 5.0):
            raise QemuError(f"{vm.name} has just been started by another command", hint="see 'appcat vm list'")
        child = _spawn_recorded(ctx, vm, command, lock)
    finally:
        os.close(lock)
    _await_monitor(ctx, vm, child)


def _spawn_recorded(ctx: Context, vm: Vm, command: list[str], lock: int) -> subprocess.Popen[bytes]:
    """Note the run before it begins and its process id as soon as there is one."""
    record = Run(
        uuid=vm.uuid,
        boot_id=boot_id(),
        started=now(),
        argv=tuple(command),
        qemu_version=ctx.host.qemu.version,
        accelerator=ctx.host.accelerator,
        cpu=argv.cpu_model(vm.machine.arch, ctx.host.accelerator),
    )
    ctx.store.save_run(vm.name, record)
    child = process.spawn(command, ctx.layout.vm(vm.name).qemu_log, [lock])
    try:
        ctx.store.save_run(
            vm.name, dataclasses.replace(record, pid=child.pid, pid_started=process.started_at(child.pid))
        )
    except BaseException:
        child.kill()
        child.wait()
        raise
    return child


def _await_monitor(ctx: Context, vm: Vm, child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + MONITOR_DEADLINE
    while True:
        try:
            with Monitor(ctx.layout.runtime(vm.uuid).monitor, timeout=MONITOR_DEADLINE):
                return
        except MonitorGone:
            if child.poll() is not None:
                _fail(ctx, vm)
            if time.monotonic() > deadline:
                child.kill()
                child.wait()
                _fail(ctx, vm)
        except MonitorError:
            child.kill()
            child.wait()
            _fail(ctx, vm)
        time.sleep(0.005)


def _fail(ctx: Context, vm: Vm) -> None:
    """QEMU did not come up: close the record and say why."""
    output = qemu_output(ctx, vm.name)
    reason = output.splitlines()[-1] if output else "it said nothing"
    settle(ctx, vm.name, Exit(ExitCause.NOT_STARTED, f"QEMU did not start: {reason}", now()))
    if match := _FORWARD_FAILED.search(output):
        raise _PortTakenError(match["protocol"], int(match["port"]))
    raise QemuError(
        f"QEMU did not start {vm.name}: {reason}",
        hint=f"its whole output is in {ctx.layout.vm(vm.name).qemu_log}; 'appcat doctor' checks this host",
        details=output,
    )


def _fresh_runtime(runtime: RuntimePaths) -> None:
    claim_runtime_directory(runtime.root.parent)
    remove_tree(runtime.root)
    make_private_directory(runtime.root)


def _boot(stored: StoredImage) -> Boot:
    return Boot(stored.vmlinux, stored.rootfs, stored.image.arguments)


def _wiring(ctx: Context, vm: Vm) -> Wiring:
    paths, runtime = ctx.layout.vm(vm.name), ctx.layout.runtime(vm.uuid)
    return Wiring(
        monitor=runtime.monitor,
        status=runtime.status,
        events=runtime.events,
        agent=runtime.agent,
        guest=runtime.guest,
        console=runtime.console,
        console_log=paths.console_log,
        identity=paths.identity,
        shares=tuple(runtime.share(slot) for slot in range(SHARE_SLOTS)),
        disks=tuple(paths.disks / disk.file for disk in vm.disks),
    )
