"""Which backend this host gets, and why: what the bridge needs is really tried, once per boot of the host.

Verdicts are kept for as long as nothing they depend on changes: the boot, this user, the interpreter (AppArmor's
profiles are for programs), access to ``/dev/net/tun``, and the kernel's settings for namespaces.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from appcat.errors import AppcatError, InvalidInput
from appcat.model import codec
from appcat.model.machine import Backend
from appcat.store.boot import boot_id
from appcat.store.files import make_private_directory, write_atomic

TUN = Path("/dev/net/tun")
SYSCTL = Path("/proc/sys")
APPARMOR = "kernel/apparmor_restrict_unprivileged_userns"
CLONE = "kernel/unprivileged_userns_clone"
MOST_USER, MOST_NET = "user/max_user_namespaces", "user/max_net_namespaces"
SETTINGS = (APPARMOR, CLONE, MOST_USER, MOST_NET)
PATIENCE = 20.0
KIND = codec.Kind("switch.json", 1)

FOR_GOOD = "for good: a file in /etc/sysctl.d"
RULE = 'KERNEL=="tun", MODE="0666"'


@dataclass(frozen=True)
class Verdict:
    """The backend for networks; why it is not the bridge, and what to do about that."""

    backend: Backend
    reason: str
    advice: str


@dataclass(frozen=True)
class Finding:
    """The cached outcome; ``key`` is a digest of all it depends on."""

    key: str
    verdict: Verdict


def verdict(cache: Path, override: str | None = None) -> Verdict:
    """What this host gets; asks the cache file first. Raises InvalidInput for an unknown override."""
    if override is not None:
        return _overridden(override)
    if sys.platform != "linux":
        return Verdict(Backend.HUB, "no kernel bridges for users here", "")
    key = _key()
    try:
        known = codec.loads(Finding, cache.read_text(encoding="utf-8"), KIND)
        if known.key == key:
            return known.verdict
    except (OSError, UnicodeDecodeError, AppcatError):
        pass
    step, code = attempt()
    found = explain(step, code)
    if step != "trial":  # it is not known, then, and the next command may find out
        make_private_directory(cache.parent)
        write_atomic(cache, codec.dumps(Finding(key, found), KIND))
    return found


def attempt() -> tuple[str, int]:
    """The first step that failed in a process of its own, and the error's number; ("", 0) when all is well."""
    line = [sys.executable, "-m", "appcat.switch", "try"]
    try:
        done = subprocess.run(line, capture_output=True, stdin=subprocess.DEVNULL, timeout=PATIENCE, cwd="/")
        answer = json.loads(done.stdout)
        return str(answer["step"]), int(answer["errno"])
    except (OSError, ValueError, KeyError, TypeError, subprocess.TimeoutExpired):
        return "trial", 0


def explain(step: str, code: int) -> Verdict:
    """The verdict for a step of ``trial.STEPS`` that failed with an error's number."""
    if not step:
        return Verdict(Backend.BRIDGE, "", "")
    if step == "trial":
        reason, advice = "the trial of bridges did not come to an end", "run 'appcat doctor' again"
    else:
        reason, advice = _tun(code) if step == "tun" else _namespace(step, code)
    return Verdict(Backend.HUB, reason, advice)


def _tun(code: int) -> tuple[str, str]:
    if code in (errno.EACCES, errno.EPERM):
        advice = f"sudo chmod 0666 {TUN}, for good: {RULE} in /etc/udev/rules.d/50-tun.rules"
        return f"no permission to use {TUN}", advice
    return f"{TUN}: {os.strerror(code)}", "sudo modprobe tun"


def _namespace(step: str, code: int) -> tuple[str, str]:
    """Namespaces may be forbidden at once, or only be of no use: then the bridge is what is refused."""
    for setting, forbidding, what in (
        (CLONE, "0", "this host forbids user namespaces"),
        (MOST_USER, "0", "this host allows no user namespaces"),
        (MOST_NET, "0", "this host allows no network namespaces"),
        (APPARMOR, "1", "AppArmor restricts user namespaces"),
    ):
        if _setting(setting) == forbidding:
            name, value = setting.replace("/", "."), {"0": "1", "1": "0"}[forbidding]
            value = "15000" if setting in (MOST_USER, MOST_NET) else value
            return f"{what} ({name} = {forbidding})", f"sudo sysctl -w {name}={value}, {FOR_GOOD}"
    if step == "bridge" and code in (errno.EOPNOTSUPP, errno.ENODEV):
        return "the kernel has no bridges", "sudo modprobe bridge"
    if step in ("user", "net") and code == errno.ENOSPC:
        return "no more namespaces are allowed here", f"see {SYSCTL / MOST_USER} and {SYSCTL / MOST_NET}"
    advice = "in a container, start that with more rights; else see the kernel's log"
    return f"{_STEPS[step]} is refused: {os.strerror(code)}", advice


_STEPS = {
    "user": "a user namespace",
    "net": "a network namespace",
    "bridge": "a bridge",
    "tap": "a tap device",
    "join": "a tap device in a bridge",
}


def _overridden(text: str) -> Verdict:
    if text not in list(Backend):
        raise InvalidInput(
            f"{text!r} does not join networks",
            hint=f"set APPCAT_SWITCH to one of {', '.join(Backend)}, or leave it unset",
        )
    if text == Backend.BRIDGE and sys.platform != "linux":
        raise InvalidInput("only Linux has kernel bridges", hint="leave APPCAT_SWITCH unset")
    reason = "set by APPCAT_SWITCH" if text == Backend.HUB else ""
    return Verdict(Backend(text), reason, "")


def _setting(name: str) -> str:
    with contextlib.suppress(OSError):
        return (SYSCTL / name).read_text(encoding="ascii").strip()
    return ""


def _key() -> str:
    facts = [boot_id(), os.getuid(), sys.executable, _access(TUN), *map(_setting, SETTINGS)]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _access(device: Path) -> str:
    if not device.exists():
        return "missing"
    return "open" if os.access(device, os.R_OK | os.W_OK) else "closed"
