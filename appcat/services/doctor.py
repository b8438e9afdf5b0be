"""``doctor``: does this host have what appcat needs, and what to do where it does not."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

import psutil

from appcat import command
from appcat.errors import AppcatError
from appcat.model.host import Verdict
from appcat.model.machine import Backend
from appcat.model.size import GIB, MIB, format_size
from appcat.services import daemon, hosts_file, keeping, templates
from appcat.services.bases import bases, budget, memory_taken
from appcat.services.context import Context
from appcat.store import locks
from appcat.store.files import claim_runtime_directory, make_private_directory
from appcat.switch import client as switch

COMFORTABLE_SPACE = GIB
COMFORTABLE_MEMORY = 512 * MIB


class Health(StrEnum):
    """How a check came out: ``warning`` limits comfort, ``failure`` keeps vms from running."""

    OK = "ok"
    WARNING = "warning"
    FAILURE = "failure"


@dataclass(frozen=True)
class Check:
    """One thing looked at: what was found and, unless it is well, what to do."""

    name: str
    health: Health
    found: str
    advice: str = ""


def examine(ctx: Context) -> list[Check]:
    """All checks; nothing is changed but for directories that any command would make."""
    return [
        *_guarded("qemu", lambda: _qemu(ctx)),
        *_tools(),
        *_guarded("home", lambda: _home(ctx)),
        *_guarded("sockets", lambda: _sockets(ctx)),
        *_guarded("space", lambda: _space(ctx)),
        _memory(),
        *_guarded("frozen memory", lambda: _frozen_memory(ctx)),
        *_guarded("networks", lambda: _networks(ctx)),
        *_guarded("templates", lambda: _templates(ctx)),
        _keeper(ctx),
        *_guarded("daemon", lambda: _daemon(ctx)),
        *_guarded("hosts file", lambda: _hosts(ctx)),
    ]


def _guarded(name: str, check: Callable[[], Iterator[Check]]) -> list[Check]:
    try:
        return list(check())
    except AppcatError as error:
        return [Check(name, Health.FAILURE, error.message, error.hint)]


def _qemu(ctx: Context) -> Iterator[Check]:
    host = ctx.host
    yield Check("qemu", Health.OK, f"QEMU {host.qemu.version} ({host.qemu.binary})")
    forced = ", set by APPCAT_ACCELERATOR" if ctx.settings.accelerator else ""
    hardware = host.accelerator != "tcg"
    yield Check(
        "accelerator",
        Health.OK if hardware else Health.WARNING,
        f"{host.accelerator}{forced}",
        "" if hardware else "guests are emulated in software: slower, but complete",
    )
    yield from (_accelerator(verdict) for verdict in host.verdicts)


def _accelerator(verdict: Verdict) -> Check:
    took = f" in {verdict.seconds:.2f} s" if verdict.seconds is not None else ""
    health = Health.OK if verdict.works else Health.WARNING
    return Check(f"accelerator {verdict.accelerator}", health, verdict.reason + took)


def _tools() -> list[Check]:
    tools = ("qemu-img", "ssh", "apt-get", "dpkg-deb")
    return [_tool(name) for name in tools]


def _tool(name: str) -> Check:
    try:
        return Check(name, Health.OK, str(command.find(name)))
    except AppcatError as error:
        needed = Health.FAILURE if name == "qemu-img" else Health.WARNING
        return Check(name, needed, error.message, error.hint)


def _home(ctx: Context) -> Iterator[Check]:
    make_private_directory(ctx.layout.home)
    with locks.hold(ctx.layout.home_lock, "doctor"):
        yield Check("home", Health.OK, str(ctx.layout.home))


def _sockets(ctx: Context) -> Iterator[Check]:
    claim_runtime_directory(ctx.settings.runtime)
    yield Check("sockets", Health.OK, str(ctx.settings.runtime))


def _space(ctx: Context) -> Iterator[Check]:
    free = shutil.disk_usage(ctx.layout.home).free
    roomy = free >= COMFORTABLE_SPACE
    yield Check(
        "space",
        Health.OK if roomy else Health.WARNING,
        f"{format_size(free)} left at {ctx.layout.home}",
        "" if roomy else f"templates and disks want {format_size(COMFORTABLE_SPACE)} or more",
    )


def _memory() -> Check:
    memory = psutil.virtual_memory()
    roomy = memory.available >= COMFORTABLE_MEMORY
    return Check(
        "memory",
        Health.OK if roomy else Health.WARNING,
        f"{format_size(memory.available)} of {format_size(memory.total)} available",
        "" if roomy else "stop other programs before starting vms",
    )


def _frozen_memory(ctx: Context) -> Iterator[Check]:
    """Where bases of instant clones have their memory."""
    place = ctx.settings.memory
    taken = sum(memory_taken(base) for base in bases(ctx).all())
    if place is None:
        where, advice = "on disk", "there is no memory-backed file system at /dev/shm: instant clones start slower"
    else:
        where, advice = f"{format_size(budget(ctx))} at most in {place.parent.parent}, what is more on disk", ""
    yield Check(
        "frozen memory", Health.WARNING if advice else Health.OK, f"{where}; taken: {format_size(taken)}", advice
    )


def _networks(ctx: Context) -> Iterator[Check]:
    """What joins vms on private networks here, and what those that run are joined by where that is something else."""
    verdict, now = switch.verdict(ctx.layout), switch.look(ctx.layout)
    words = {Backend.BRIDGE: "bridges of the kernel", Backend.HUB: "appcat's own hub, slower"}
    found = words[verdict.backend] + (f": {verdict.reason}" if verdict.reason else "")
    advice = verdict.advice
    if now.networks and now.backend not in (None, verdict.backend):
        found += f"; running vms are still on the {now.backend}"
        advice = advice or "stop every vm that is on a network, then start them again"
    yield Check("networks", Health.WARNING if advice else Health.OK, found, advice)


def _templates(ctx: Context) -> Iterator[Check]:
    for info in templates.list_templates(ctx):
        if info.problem:
            yield Check(f"template {info.name}", Health.FAILURE, info.problem, "correct its template.toml")
        elif info.image is None:
            yield Check(f"template {info.name}", Health.OK, "not built yet; that happens at first use")
        else:
            yield Check(f"template {info.name}", Health.OK, f"image {info.image.image.digest[:12]}")


def _keeper(ctx: Context) -> Check:
    return Check("keeper", Health.OK, "running" if keeping.is_running(ctx) else "not running; starts with the first vm")


def _daemon(ctx: Context) -> Iterator[Check]:
    state = daemon.look(ctx)
    if state is None:
        yield Check("daemon", Health.OK, "not running; only programs need it")
        return
    found = f"process {state.pid}, {', '.join(state.addresses) or 'starting'}"
    if not daemon.answers(ctx.layout.daemon_socket):
        yield Check("daemon", Health.WARNING, f"{found}: does not answer", "see 'appcat daemon logs'")
    elif state.since and not state.is_current:
        advice = "restart it: appcat daemon restart"
        yield Check("daemon", Health.WARNING, f"{found}: of another version, {state.version}", advice)
    else:
        yield Check("daemon", Health.OK, found)


def _hosts(ctx: Context) -> Iterator[Check]:
    """Only where it was asked for: names that are left from vms that are gone lead to somebody else one day."""
    path = hosts_file.HOSTS
    if hosts_file.is_installed(ctx, path):
        current = hosts_file.is_current(ctx, path)
        yield Check(
            "hosts file",
            Health.OK if current else Health.WARNING,
            f"{path} has the names of these vms" + ("" if current else ", but not as they are now"),
            "" if current else f"have it right: {hosts_file.sudo_line(ctx, 'install')}",
        )
