"""Power-on to a guest that answers, against plain QEMU with the same kernel and initial file system."""

from __future__ import annotations

import time

from appcat.model.size import MIB
from appcat.services import templates
from appcat.services.create import CreateRequest, create
from appcat.services.start import start
from appcat.services.stop import kill
from scripts.benchmarks import raw
from scripts.benchmarks.bench import Bench
from scripts.benchmarks.report import Result, paired

BAR = 1.15
NAME = "boot"


def measure(bench: Bench) -> list[Result]:
    """Milestones of ``vm start`` (service level, its own work before QEMU included) and of plain QEMU."""
    bench.say(f"booting {bench.count} pairs")
    create(bench.context, CreateRequest(NAME))
    ours: list[raw.Milestones] = []
    theirs: list[raw.Milestones] = []
    for number in range(bench.count + 1):
        order = (_ours, _raw) if number % 2 else (_raw, _ours)
        for boot in order:
            (ours if boot is _ours else theirs).append(boot(bench))
    bench.remove(NAME)
    measured = list(zip(ours[1:], theirs[1:], strict=True))  # the first pair warms the page cache
    return [
        paired("power-on to guest agent", [(mine.agent, other.agent) for mine, other in measured], BAR),
        paired("power-on to SSH banner", [(mine.banner, other.banner) for mine, other in measured], BAR),
    ]


def _ours(bench: Bench) -> raw.Milestones:
    begin = time.monotonic()
    vm = start(bench.context, NAME, ready_within=None).vm
    try:
        ssh = (vm.ssh_forward.address, vm.ssh_port)
        return raw.milestones(bench.context.layout.runtime(vm.uuid).agent, ssh, begin)
    finally:
        kill(bench.context, NAME)


def _raw(bench: Bench) -> raw.Milestones:
    vm = bench.context.store.load(NAME)
    stored = templates.ensure(bench.context, "pico")
    identity = bench.context.layout.vm(NAME).identity
    if not identity.exists():
        _ours(bench)
    begin = time.monotonic()
    with raw.plain_qemu(
        stored.vmlinux, stored.rootfs, stored.image.arguments, f"{vm.memory // MIB}M", identity, vm.nics[0].mac
    ) as booted:
        agent, port = booted
        return raw.milestones(agent, (raw.LOOPBACK, port), begin)
