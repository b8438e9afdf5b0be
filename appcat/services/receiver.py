"""The receiver: a second QEMU of the same shape that takes a guest's state over only to save it, and never runs it."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

from appcat.model.machine import Purpose
from appcat.model.vm import Vm
from appcat.qemu import argv, migration, process
from appcat.qemu.monitor import Monitor
from appcat.services import cables
from appcat.services.bases import bases
from appcat.services.cables import Cables
from appcat.services.context import Context
from appcat.services.machines import await_monitor, boot_of, claim_runtime, image_of, not_started, wiring_of
from appcat.store.files import remove_tree
from appcat.store.layout import BasePaths, RuntimePaths


@dataclass
class Receiver:
    """One receiver, for the base ``identifier`` of ``vm``, whose ``memory`` it maps; it holds the base's lock.

    ``plugged`` names the root port of each disk that was plugged into the source while it ran.
    """

    ctx: Context
    vm: Vm
    identifier: str
    paths: BasePaths
    memory: Path
    plugged: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    backend: str = ""

    @property
    def runtime(self) -> RuntimePaths:
        """Its sockets."""
        return self.ctx.layout.runtime(self.identifier)

    @property
    def address(self) -> str:
        """Where it receives, as a migration URI."""
        return f"unix:{self.runtime.root / 'migrate.sock'}"

    def start(self) -> None:
        """Spawn it, its cards on private networks leading nowhere; raises MissingTool, Unavailable, NetworkError."""
        claim_runtime(self.runtime)
        use = bases(self.ctx).use(self.identifier)
        try:
            with cables.laid(self.ctx, self.identifier, self.vm.networks) as laid:
                self.backend = laid.backend
                self.process = process.spawn(self._command(laid), self.paths.qemu_log, [use, *laid.inherit])
        finally:
            os.close(use)

    def _command(self, laid: Cables) -> list[str]:
        wiring = wiring_of(
            self.ctx,
            self.vm,
            self.runtime,
            self.paths,
            Purpose.RECEIVER,
            memory=self.memory,
            plugged=self.plugged,
            ports=laid.wiring,
        )
        wiring = replace(wiring, identity=self.ctx.layout.vm(self.vm.name).identity)
        return argv.argv(self.vm, boot_of(image_of(self.ctx, self.vm)), wiring, self.ctx.host)

    def listen(self) -> None:
        """Have it wait for a state, once it has come up; raises QemuError."""
        monitor = await_monitor(self.runtime, self.process) if self.process else None
        if monitor is None:
            raise not_started(f"the receiver of {self.vm.name}", self.paths.qemu_log)
        with monitor:
            monitor.execute("migrate-incoming", uri=self.address)

    def save(self) -> None:
        """Write the state it has received, all but the memory, to the base; raises MigrationFailed, MonitorError."""
        with Monitor(self.runtime.monitor, migration.STATE_PATIENCE) as monitor:
            migration.await_status(monitor, "completed", migration.STATE_PATIENCE)
            migration.save(monitor, self.paths.state)

    def end(self) -> None:
        """End it, wherever it is; it never ran a guest, so nothing is lost."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
            remove_tree(self.runtime.root)
            if self.backend:
                cables.forget(self.ctx, self.identifier)
