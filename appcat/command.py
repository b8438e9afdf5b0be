"""The one place where short-lived programs are run.

Long-lived ones (QEMU, helpers) are spawned in ``qemu.process``; interactive ``ssh`` replaces this process in ``cli``.
"""

from __future__ import annotations

import logging
import shlex
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from appcat.checks import TICK, Check, unchecked
from appcat.errors import AppcatError, CommandError, MissingTool, from_os_error

log = logging.getLogger(__name__)

DEFAULT_TIMEOUT = 120.0
DETAIL_LINES = 20

# Program -> what provides it, for the hint when it is missing. Debian's package names.
PACKAGES = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-system-aarch64": "qemu-system-arm",
    "qemu-img": "qemu-utils",
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "ssh": "openssh-client",
}
# What images are built with: other systems than Debian's relatives have no use for it.
BUILDERS = frozenset({"apt-get", "dpkg-deb"})


def find(program: str) -> Path:
    """Absolute path of ``program``; raises MissingTool with the package that has it."""
    found = shutil.which(program)
    if found is None:
        raise MissingTool(f"{program} is not installed", hint=install_hint(program))
    return Path(found)


def install_hint(program: str) -> str:
    """What to type, or what to look for, when ``program`` is missing."""
    package = PACKAGES.get(program)
    if package is None:
        return f"install {program}, then run 'appcat doctor'"
    if shutil.which("apt-get"):
        return f"sudo apt-get install {package}"
    if program in BUILDERS:
        return "take images that were built elsewhere: appcat config set prebuilt (see docs/templates.md)"
    return f"install the package that has {program} (Debian: {package}), then run 'appcat doctor'"


def run(
    argv: Sequence[str | Path],
    *,
    timeout: float = DEFAULT_TIMEOUT,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    check: Check = unchecked,
) -> str:
    """Run a program to its end and return what it printed on standard output.

    ``timeout`` is in seconds. Raises MissingTool when the program is not there, CommandError when it fails or takes
    too long; the error's details hold the last lines it printed. What ``check`` raises meanwhile ends the program.
    """
    line = shlex.join(str(arg) for arg in argv)
    log.debug("run %s", line)
    try:
        child = subprocess.Popen(
            [str(arg) for arg in argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env,
            cwd=cwd,
            errors="replace",
            encoding="utf-8",
        )
    except OSError as error:
        raise _cannot_start(str(argv[0]), error) from error
    with child:
        try:
            output, errors = _communicate(child, timeout, check)
        except subprocess.TimeoutExpired as error:
            child.kill()
            raise CommandError(f"{argv[0]} took longer than {timeout:g} s", hint=f"try it by hand: {line}") from error
        except BaseException:
            child.kill()
            raise
    if child.returncode != 0:
        tail = "\n".join((errors or output).strip().splitlines()[-DETAIL_LINES:])
        reason = tail.splitlines()[-1] if tail else f"exit status {child.returncode}"
        raise CommandError(f"{Path(str(argv[0])).name} failed: {reason}", hint=f"try it by hand: {line}", details=tail)
    return output


def _communicate(child: subprocess.Popen[str], timeout: float, check: Check) -> tuple[str, str]:
    """What the program printed, once it has ended; raises TimeoutExpired, and what ``check`` raises."""
    deadline = time.monotonic() + timeout
    while True:
        left = max(deadline - time.monotonic(), 0.0)
        try:
            return child.communicate(timeout=left if check is unchecked else min(left, TICK))
        except subprocess.TimeoutExpired:
            if time.monotonic() >= deadline:
                raise
            check()


def _cannot_start(program: str, error: OSError) -> AppcatError:
    if isinstance(error, FileNotFoundError) and error.filename == program:
        return MissingTool(f"{program} is not installed", hint=install_hint(program))
    return from_os_error(error, f"running {program}")
