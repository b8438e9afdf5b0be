"""QEMU as a process that outlives us: spawned detached, found again, ended through a pidfd.

A spawned QEMU inherits the descriptor of its vm's ``run.lock``; who holds that file open is who runs the vm, whatever
``run.json`` says. Process ids alone are never trusted: before a signal the command line must carry the vm's uuid.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import shlex
import signal
import struct
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from appcat.command import install_hint
from appcat.errors import MissingTool, QemuError, from_os_error

log = logging.getLogger(__name__)

LOG_TAIL_BYTES = 4096

# <linux/prctl.h>
_PR_SET_PDEATHSIG = 1
# <linux/pidfd.h>: PIDFD_GET_INFO with PIDFD_INFO_EXIT gives a stranger's exit status from Linux 6.15 on.
_PIDFD_GET_INFO = 0xC050FF0B
_PIDFD_INFO_EXIT = 1 << 3
_PIDFD_INFO_SIZE = 80
_EXIT_CODE_OFFSET = 60


def spawn(argv: Sequence[str], log_path: Path, inherit: Sequence[int]) -> subprocess.Popen[bytes]:
    """Start QEMU in a session of its own, its output going to ``log_path``, with the descriptors ``inherit``.

    The handle returned serves only to notice an early death. Raises MissingTool, or Unavailable when the system
    refuses (no memory for a process, log not writable).
    """
    log.debug("spawn %s", shlex.join(argv))
    try:
        with log_path.open("wb") as output:
            return subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=tuple(inherit),
                cwd="/",
            )
    except OSError as error:
        program = Path(argv[0]).name
        if isinstance(error, FileNotFoundError) and error.filename == argv[0]:
            raise MissingTool(f"{program} is not installed", hint=install_hint(program)) from error
        raise from_os_error(error, "starting QEMU") from error


def ending_with_parent() -> Callable[[], None] | None:
    """What a child that must not outlive this process does before it becomes its program: on Linux it has itself
    killed when the thread that started it ends. None elsewhere.
    """
    import ctypes
    import sys

    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl  # found now: between fork and exec nothing may be loaded
    return lambda: prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))


def output_of(log_path: Path) -> str:
    """The end of what a QEMU wrote to its log, without harmless warnings."""
    try:
        with log_path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(file.tell() - LOG_TAIL_BYTES, 0))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(line for line in text.splitlines() if line.strip() and "warning:" not in line)


def started_at(pid: int) -> float | None:
    """When the process began, in seconds since the epoch, or None when there is none."""
    try:
        return psutil.Process(pid).create_time()
    except psutil.Error:
        return None


def runs_vm(pid: int, uuid: str) -> bool:
    """Whether ``pid`` is a living QEMU that was started for the vm ``uuid``."""
    try:
        process = psutil.Process(pid)
        return uuid in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def find_holder(lock: Path) -> int | None:
    """The QEMU of this user that has ``lock`` open; for a vm whose ``run.json`` is lost."""
    for process in psutil.process_iter():
        if holds(process.pid, lock):
            return process.pid
    return None


def holds(pid: int, lock: Path) -> bool:
    """Whether ``pid`` is a QEMU that has ``lock`` open."""
    try:
        process = psutil.Process(pid)
        is_qemu = process.name().startswith("qemu-system")
        return is_qemu and any(file.path == str(lock.resolve()) for file in process.open_files())
    except (psutil.Error, OSError):
        return False


class Handle:
    """A process that cannot be mistaken for another: a pidfd where the system has them.

    Use as a context manager. Raises ProcessLookupError when the process is gone already.
    """

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.descriptor = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else None

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the process; it is not touched."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; a process that is gone is fine."""
        with contextlib.suppress(ProcessLookupError):
            if self.descriptor is not None:
                signal.pidfd_send_signal(self.descriptor, number)
            else:
                os.kill(self.pid, number)

    def wait(self, timeout: float) -> bool:
        """Whether the process ended within ``timeout`` seconds."""
        if self.descriptor is not None:
            # Not select(): a daemon with many connections has descriptors beyond what that can take.
            poll = select.poll()
            poll.register(self.descriptor, select.POLLIN)
            return bool(poll.poll(max(timeout, 0.0) * 1000))
        return _poll_end(self.pid, timeout)

    def wait_status(self) -> int | None:
        """The wait status (``os.waitstatus_to_exitcode``) of an ended process, where it can be known.

        A child of this process is reaped; a stranger's status is told by Linux from 6.15 on.
        """
        if self.descriptor is None:
            return None
        with contextlib.suppress(ChildProcessError):
            ended = os.waitid(os.P_PIDFD, self.descriptor, os.WEXITED | os.WNOHANG)
            if ended is not None:
                return ended.si_status << 8 if ended.si_code == os.CLD_EXITED else ended.si_status
        told = self._stranger_status(self.descriptor)
        return _zombie_status(self.pid) if told is None else told

    def _stranger_status(self, descriptor: int) -> int | None:
        import fcntl

        request = bytearray(struct.pack("<Q", _PIDFD_INFO_EXIT).ljust(_PIDFD_INFO_SIZE, b"\0"))
        try:
            fcntl.ioctl(descriptor, _PIDFD_GET_INFO, request)
        except OSError:
            return None
        (mask,) = struct.unpack_from("<Q", request)
        (status,) = struct.unpack_from("<i", request, _EXIT_CODE_OFFSET)
        return status if mask & _PIDFD_INFO_EXIT else None


def kill(pid: int, is_it: Callable[[int], bool], timeout: float = 10.0) -> None:
    """End the process ``pid`` at once if ``is_it`` still says yes; raises QemuError if it outlives ``timeout`` seconds.

    The pidfd is opened first and the question asked afterwards, so that a process id that is used again in between is
    never signalled.
    """
    try:
        with Handle(pid) as process:
            if not is_it(pid):
                return
            process.signal(signal.SIGKILL)
            if not process.wait(timeout):
                raise QemuError(f"QEMU (process {pid}) does not die", hint="it may be stuck in disk I/O; try again")
    except ProcessLookupError:
        return


def is_kill(status: int) -> bool:
    """Whether a wait status tells of a signal."""
    return os.waitstatus_to_exitcode(status) < 0


def describe_status(status: int) -> str:
    """A wait status in words."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"QEMU ended with status {code}"
    with contextlib.suppress(ValueError):
        return f"QEMU was killed by {signal.Signals(-code).name}"
    return f"QEMU was killed by signal {-code}"


def _zombie_status(pid: int) -> int | None:
    """The wait status of a process that nobody has reaped yet: the last field of proc(5)'s stat."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[-1]) if fields[0] == "Z" else None


def _poll_end(pid: int, timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    while psutil.pid_exists(pid):
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.05)
    return True
