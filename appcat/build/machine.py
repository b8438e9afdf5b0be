"""The builder machine: a guest that lives for one build and fills a root disk.

Installing packages means running their scripts as root in the system they are for. A guest can do that whatever its
user may do on the host. It gets a parcel (``build.parcel``) and a disk, no network, and speaks on its console: see
``templates/guest/builder``. It ends with who started it.
"""

from __future__ import annotations

import json
import logging
import os
import re
import select
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from appcat.checks import TICK, Check
from appcat.command import install_hint
from appcat.errors import BuildError, MissingTool, from_os_error
from appcat.model.host import Host, System
from appcat.model.machine import pinned_machine
from appcat.qemu.argv import cpu_model, escape
from appcat.qemu.process import ending_with_parent

log = logging.getLogger(__name__)

MEMORY_MIB = 1024
PROCESSORS = 2
# Without a word from it: the largest package takes two minutes under software emulation on a busy host.
SILENCE = 900.0
# From its last word to its end.
CLOSING = 120.0
TAIL = 20
_SAID = re.compile(r"appcat-build: (step (\d+) (\d+) (.*)|done|failed ?(.*))")
_MACHINE_ARGS = {System.LINUX: ["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny"], System.MACOS: []}


@dataclass(frozen=True)
class Work:
    """One run: what the machine starts from, its root disk to be, the parcel, the kernel's arguments."""

    kernel: Path
    initramfs: Path
    disk: Path
    parcel: Path
    arguments: str


def argv(work: Work, host: Host) -> list[str]:
    """QEMU's command line for the machine. A disk that cannot be written is the guest's to notice, not a halt."""
    accelerator = f"{host.accelerator}" + (",tb-size=256" if host.accelerator == "tcg" else "")
    disk = {
        "node-name": "root",
        "driver": "qcow2",
        "discard": "unmap",
        "detect-zeroes": "unmap",
        # Nothing of it counts before it is whole.
        "cache": {"no-flush": True},
        "file": {"driver": "file", "filename": str(work.disk), "discard": "unmap"},
    }
    return [
        host.qemu.binary,
        *("-name", "appcat-builder", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
        *_MACHINE_ARGS[host.system],
        *("-machine", pinned_machine(host.arch).type, "-accel", accelerator),
        *("-cpu", cpu_model(host.arch, host.accelerator), "-smp", f"cpus={PROCESSORS}", "-m", f"size={MEMORY_MIB}M"),
        *("-kernel", str(work.kernel), "-initrd", str(work.initramfs), "-append", work.arguments),
        *("-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"),
        *("-blockdev", json.dumps(disk, separators=(",", ":"))),
        *("-device", "virtio-blk-pci,drive=root,werror=report,rerror=report"),
        *("-fsdev", f"local,id=parcel,path={escape(work.parcel)},security_model=none,readonly=on"),
        *("-device", "virtio-9p-pci,fsdev=parcel,mount_tag=parcel"),
        *("-device", "virtio-rng-pci"),
    ]


def run(work: Work, host: Host, report: Callable[[str, int, int], None], check: Check) -> None:
    """Have the machine do its work, and end. Raises BuildError with the end of what its console showed, MissingTool.

    ``report`` is told each step; what ``check`` raises meanwhile ends the machine.
    """
    child = _spawn(argv(work, host))
    try:
        _listen(child, report, check)
    finally:
        child.kill()
        child.wait()
        if child.stdout:
            child.stdout.close()


def _spawn(command: list[str]) -> subprocess.Popen[bytes]:
    log.debug("spawn %s", command)
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=ending_with_parent(),
            cwd="/",
        )
    except OSError as error:
        program = Path(command[0]).name
        if isinstance(error, FileNotFoundError):
            raise MissingTool(f"{program} is not installed", hint=install_hint(program)) from error
        raise from_os_error(error, "starting the builder machine") from error


def _listen(child: subprocess.Popen[bytes], report: Callable[[str, int, int], None], check: Check) -> None:
    """Read the console until the machine has said how it went."""
    console = Console()
    heard = time.monotonic()
    assert child.stdout is not None
    while True:
        check()
        if not select.select([child.stdout], [], [], TICK)[0]:
            if time.monotonic() - heard > SILENCE:
                raise console.error(f"the builder machine has said nothing for {SILENCE / 60:.0f} minutes")
            continue
        data = os.read(child.stdout.fileno(), 65536)
        if not data:
            raise console.error("the builder machine ended before its work was done")
        heard = time.monotonic()
        if console.take(data, report):
            _await_end(child, console)
            return


def _await_end(child: subprocess.Popen[bytes], console: Console) -> None:
    """Only when QEMU has ended is all of the disk in its file."""
    try:
        child.wait(CLOSING)
    except subprocess.TimeoutExpired as error:
        raise console.error("the builder machine does not end") from error


class Console:
    """What the machine has said so far."""

    def __init__(self) -> None:
        self._rest = ""
        self._lines: list[str] = []

    def take(self, data: bytes, report: Callable[[str, int, int], None]) -> bool:
        """Whether the work is done; raises BuildError when it failed."""
        *lines, self._rest = (self._rest + data.decode(errors="replace")).split("\n")
        for line in (line.strip() for line in lines):
            said = _SAID.search(line)
            if said is None:
                self._lines = [*self._lines[-TAIL:], line] if line else self._lines
            elif said[1] == "done":
                return True
            elif said[2]:
                report(said[4], int(said[2]), int(said[3]))
            else:
                raise self.error(said[5] or "the builder machine failed")
        return False

    def error(self, what: str) -> BuildError:
        """The error that says so, with the last lines."""
        return BuildError(
            what, hint="see the details; correct the template, or build again", details="\n".join(self._lines[-TAIL:])
        )
