"""What this host can really do.

An accelerator counts only when a tiny guest ran under it to its end within a deadline: ``/dev/kvm`` may open, and even
create a machine, on a computer where a guest then never gets going. The fastest that finishes wins. Verdicts are kept
for as long as nothing they depend on changes: the host's boot, QEMU, the processor, this user's access to ``/dev/kvm``.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import platform
import re
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from appcat import command
from appcat.errors import AppcatError, InvalidInput, MissingTool, QemuError
from appcat.model import codec
from appcat.model.host import Accelerator, Host, Qemu, System, Verdict, host_arch, host_system
from appcat.model.machine import MACHINE_TYPES
from appcat.model.vm import Arch
from appcat.qemu.argv import escape
from appcat.store.boot import boot_id
from appcat.store.files import make_private_directory, write_atomic

MINIMUM_QEMU = (7, 2)
# Software emulation cannot fail to get going, only be slow on a busy host; hardware may lie for ever.
DEADLINES = {Accelerator.KVM: 3.0, Accelerator.HVF: 3.0, Accelerator.TCG: 30.0}
KVM = Path("/dev/kvm")

CANDIDATES = {
    System.LINUX: (Accelerator.KVM, Accelerator.TCG),
    System.MACOS: (Accelerator.HVF, Accelerator.TCG),
}

KIND = codec.Kind("probe.json", 1)


@dataclass(frozen=True)
class Findings:
    """The cached outcome; ``key`` is a digest of all it depends on."""

    key: str
    qemu_version: str
    verdicts: tuple[Verdict, ...]


def host(cache: Path, override: str | None = None) -> Host:
    """This host's capabilities; asks the cache file first and probes when it does not fit.

    ``override`` names an accelerator to use whatever the verdicts say. Raises MissingTool without a QEMU that is new
    enough, InvalidInput for an unknown override, QemuError when no accelerator works.
    """
    system, arch = host_system(sys.platform), architecture()
    binary = command.find(f"qemu-system-{arch}")
    found = _cached(cache, system, arch, binary)
    accelerator = choose(found.verdicts) if override is None else _parse_override(override, system)
    return Host(system, arch, Qemu(str(binary), found.qemu_version), accelerator, found.verdicts)


def check_version(binary: Path) -> str:
    """The version of the QEMU at ``binary``; raises MissingTool when it is too old."""
    version = parse_version(command.run([binary, "--version"]))
    if tuple(int(part) for part in version.split(".")[:2]) < MINIMUM_QEMU:
        least = ".".join(map(str, MINIMUM_QEMU))
        raise MissingTool(f"{binary.name} {version} is too old", hint=f"install QEMU {least} or later")
    return version


def parse_version(output: str) -> str:
    """The version in what ``qemu-system-* --version`` prints."""
    match = re.search(r"version (\d+\.\d+(?:\.\d+)?)", output)
    if not match:
        raise QemuError(f"cannot read QEMU's version from {output[:60]!r}", hint="run 'appcat doctor'")
    return match[1]


def choose(verdicts: tuple[Verdict, ...]) -> Accelerator:
    """The fastest accelerator that works; raises QemuError when none does."""
    working = [verdict for verdict in verdicts if verdict.works and verdict.seconds is not None]
    if not working:
        reasons = "; ".join(f"{verdict.accelerator}: {verdict.reason}" for verdict in verdicts)
        raise QemuError("no accelerator runs a guest on this host", hint="run 'appcat doctor'", details=reasons)
    return min(working, key=lambda verdict: verdict.seconds or 0.0).accelerator


def probe(accelerator: Accelerator, arch: Arch, binary: str, deadline: float | None = None) -> Verdict:
    """Run the payload under ``accelerator`` for at most ``deadline`` seconds (default: ``DEADLINES``)."""
    if accelerator is Accelerator.KVM and (refusal := _kvm_refusal()):
        return Verdict(accelerator, False, refusal)
    with _payload_file(x86_payload() if arch is Arch.X86_64 else arm_payload()) as payload:
        return _run(
            accelerator,
            probe_argv(binary, arch, accelerator, payload),
            expected_exit(arch),
            deadline or DEADLINES[accelerator],
        )


@contextlib.contextmanager
def _payload_file(data: bytes) -> Iterator[Path]:
    """A file that QEMU can open by name; where the system has files without a directory, nothing can be left of it."""
    if hasattr(os, "memfd_create"):
        with os.fdopen(os.memfd_create("appcat-probe"), "wb", buffering=0) as file:
            file.write(data)
            yield Path(f"/proc/{os.getpid()}/fd/{file.fileno()}")
        return
    import tempfile

    with tempfile.TemporaryDirectory(prefix="appcat-probe-") as directory:
        payload = Path(directory, "payload")
        payload.write_bytes(data)
        yield payload


def probe_argv(binary: str, arch: Arch, accelerator: Accelerator, payload: Path) -> list[str]:
    """The smallest machine that runs ``payload`` and then ends by itself."""
    common = [binary, "-nodefaults", "-no-user-config", "-display", "none", "-m", "16", "-accel", str(accelerator)]
    if arch is Arch.X86_64:
        debug_exit = "isa-debug-exit,iobase=0xf4,iosize=1"
        return [*common, "-machine", MACHINE_TYPES[arch], "-bios", str(payload), "-device", debug_exit]
    cpu = "max" if accelerator is Accelerator.TCG else "host"
    loader = f"loader,file={escape(payload)},addr=0x40200000,cpu-num=0,force-raw=on"  # above the device tree
    return [*common, "-machine", MACHINE_TYPES[arch], "-cpu", cpu, "-device", loader]


def expected_exit(arch: Arch) -> int:
    """QEMU's exit status when the payload ended well: isa-debug-exit gives (value << 1) | 1, a power-off gives 0."""
    return (_DEBUG_EXIT_VALUE << 1) | 1 if arch is Arch.X86_64 else 0


_PR_SET_PDEATHSIG = 1
_DEBUG_EXIT_VALUE = 0x10
_LOOPS = 20_000_000
_ROM_SIZE = 0x10000
_RESET_VECTOR = 0xFFF0


def x86_payload() -> bytes:
    """A 64 KiB firmware: from the reset vector, count down (work to be timed), then leave through port 0xf4."""
    code = b"\x66\xb9" + struct.pack("<I", _LOOPS)  # mov ecx, LOOPS
    code += b"\x66\x49" + b"\x75\xfc"  # again: dec ecx; jnz again
    code += b"\xb0" + bytes([_DEBUG_EXIT_VALUE]) + b"\xba\xf4\x00" + b"\xee"  # mov al, VALUE; mov dx, 0xf4; out dx, al
    code += b"\xf4"  # hlt
    rom = bytearray(b"\x90" * _ROM_SIZE)
    rom[: len(code)] = code
    rom[_RESET_VECTOR : _RESET_VECTOR + 5] = b"\xea\x00\x00\x00\xf0"  # jmp f000:0000
    return bytes(rom)


def arm_payload() -> bytes:
    """AArch64 code: count down, then PSCI SYSTEM_OFF through hvc. Not tested on hardware."""
    instructions = (
        0xD2A02620,  # movz x0, #0x131, lsl #16   (about 20 million)
        0xD1000400,  # again: sub x0, x0, #1
        0xB5FFFFE0,  # cbnz x0, again
        0xD2800100,  # movz x0, #0x8
        0xF2B08000,  # movk x0, #0x8400, lsl #16   (PSCI SYSTEM_OFF, Arm DEN0022)
        0xD4000002,  # hvc #0
    )
    return struct.pack(f"<{len(instructions)}I", *instructions)


def _run(accelerator: Accelerator, argv: list[str], expected: int, deadline: float) -> Verdict:
    start = time.monotonic()
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        preexec_fn=_ending_with_parent(),
    )
    try:
        _, output = process.communicate(timeout=deadline)
    except BaseException as error:
        process.kill()
        process.communicate()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        return Verdict(accelerator, False, f"a tiny guest did not finish within {deadline:g} s")
    seconds = time.monotonic() - start
    if process.returncode == expected:
        return Verdict(accelerator, True, "a tiny guest ran to its end", round(seconds, 3))
    said = output.decode(errors="replace").strip().splitlines()
    return Verdict(accelerator, False, "; ".join(said[-3:]) if said else f"QEMU ended with status {process.returncode}")


def _ending_with_parent() -> Callable[[], object] | None:
    """What a child does before it becomes QEMU, to end with the command that probes, killed or not (prctl(2)).

    Everything is looked up before the fork: a child of a process with threads should do as little as it can.
    """
    if sys.platform != "linux":
        return None
    import ctypes

    return functools.partial(ctypes.CDLL(None).prctl, _PR_SET_PDEATHSIG, int(signal.SIGKILL))


def _kvm_refusal() -> str:
    if not KVM.exists():
        return f"{KVM} does not exist"
    if not os.access(KVM, os.R_OK | os.W_OK):
        return f"no permission to use {KVM} (is this user in the group kvm?)"
    return ""


def _cached(cache: Path, system: System, arch: Arch, binary: Path) -> Findings:
    key = _key(binary)
    try:
        known = codec.loads(Findings, cache.read_text(encoding="utf-8"), KIND)
        if known.key == key:
            return known
    except (OSError, UnicodeDecodeError, AppcatError):
        pass
    version = check_version(binary)
    verdicts = tuple(probe(accelerator, arch, str(binary)) for accelerator in CANDIDATES[system])
    found = Findings(key, version, verdicts)
    if any(verdict.works for verdict in verdicts):  # else it was a bad moment, and the next command may find a better
        make_private_directory(cache.parent)
        write_atomic(cache, codec.dumps(found, KIND))
    return found


def _key(binary: Path) -> str:
    status = binary.stat()
    facts = [boot_id(), str(binary), status.st_mtime_ns, status.st_size, _processor(), _kvm_refusal()]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").split("\n\n", 1)[0]
    except OSError:
        return platform.processor()
    return "\n".join(line for line in text.splitlines() if line.startswith(("model name", "flags", "Features")))


def _parse_override(text: str, system: System) -> Accelerator:
    if text in list(CANDIDATES[system]):
        return Accelerator(text)
    raise InvalidInput(
        f"{text!r} is not an accelerator of this host",
        hint=f"set APPCAT_ACCELERATOR to one of {', '.join(CANDIDATES[system])}, or leave it unset",
    )


def architecture() -> Arch:
    """This computer's architecture; raises QemuError for one that appcat has no templates for."""
    try:
        return host_arch(platform.machine())
    except ValueError as error:
        raise QemuError(
            f"appcat has no templates for {platform.machine()} computers", hint="use an x86_64 or arm64 host"
        ) from error
