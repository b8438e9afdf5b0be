"""Docker hosts, cold and instant: until the engine says its version over TLS, against plain QEMU with the same."""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from appcat.guest.identity import clock_statement, document
from appcat.model.docker import ENGINE_PORT, url_of
from appcat.model.size import MIB
from appcat.model.vm import Vm
from appcat.services import templates
from appcat.services.certificates import credentials
from appcat.services.create import CreateRequest, create
from appcat.services.docker import TEMPLATE, docker_create
from appcat.services.guests import CLONE_HOOKS
from appcat.services.start import start
from scripts.benchmarks import raw
from scripts.benchmarks.bench import Bench
from scripts.benchmarks.report import Result, figure, paired

COLD_BAR, INSTANT_BAR = 1.2, 1.5
PATIENCE = 600.0
CURVE = (1, 2, 5, 10)
COLD_PAIRS = 3


def measure(bench: Bench) -> list[Result]:
    """The template is built first when it is not there. Contexts of the docker CLI go to a directory of their own."""
    bench.keep_docker_contexts_apart()
    templates.ensure(bench.context, TEMPLATE)
    return [_cold(bench), _instant(bench), *_curve(bench), _new_id(bench)]


def _cold(bench: Bench) -> Result:
    pairs = min(bench.count, COLD_PAIRS)
    bench.say(f"booting {pairs} Docker hosts, and as many with plain QEMU")
    measured = []
    for number in range(pairs):
        order = (_ours_cold, _raw_cold) if number % 2 else (_raw_cold, _ours_cold)
        seconds = {step: step(bench) for step in order}
        measured.append((seconds[_ours_cold], seconds[_raw_cold]))
    return paired("docker: power-on to version over TLS", measured, COLD_BAR)


def _where(vm: Vm) -> tuple[str, int]:
    address, _, port = url_of(vm).removeprefix("tcp://").rpartition(":")
    return address, int(port)


def _ours_cold(bench: Bench) -> float:
    """``vm start`` of a new host (service level, its own work before QEMU included)."""
    create(bench.context, CreateRequest("cold", template=TEMPLATE))
    shown = credentials(bench.context).directory
    begun = time.monotonic()
    vm = start(bench.context, "cold", ready_within=None).vm
    raw.wait_for_engine(_where(vm), shown, begun + PATIENCE)
    seconds = time.monotonic() - begun
    bench.remove("cold")
    return seconds


def _raw_cold(bench: Bench) -> float:
    """The same disks, blank but for the template, and the identity of a host of ours, which says 127.0.0.1 as well."""
    create(bench.context, CreateRequest("twin", template=TEMPLATE))
    start(bench.context, "twin", ready_within=None)
    vm = bench.context.store.load("twin")
    identity = bench.context.layout.vm("twin").identity.read_text()
    bench.remove("twin")
    stored = templates.ensure(bench.context, TEMPLATE)
    with tempfile.TemporaryDirectory(prefix="appcat-bench-") as name:
        here = Path(name)
        (here / "identity").write_text(identity)
        disks = {disk.name: here / f"{disk.name}.qcow2" for disk in stored.image.disks}
        for disk in stored.image.disks:
            raw.overlay(disks[disk.name], stored.disk(disk.name), str(disk.size))
        begun = time.monotonic()
        with raw.plain_qemu(
            stored.vmlinux, stored.rootfs, stored.image.arguments, f"{vm.memory // MIB}M", here / "identity",
            vm.nics[0].mac, disks, ENGINE_PORT,
        ) as (_, port):  # fmt: skip
            raw.wait_for_engine((raw.LOOPBACK, port), credentials(bench.context).directory, begun + PATIENCE)
            return time.monotonic() - begun


def _instant(bench: Bench) -> Result:
    bench.say("warming the template, then making Docker hosts of it, and restoring the same state with plain QEMU")
    _make(bench, ["source"])
    measured = []
    for number in range(bench.count + 1):
        order = (_ours, _raw) if number % 2 else (_raw, _ours)
        seconds = {step: step(bench) for step in order}
        measured.append((seconds[_ours], seconds[_raw]))
    bench.remove("source")
    return paired("docker create, instant, to version over TLS", measured[1:], INSTANT_BAR)


def _make(bench: Bench, names: list[str], *, new_id: bool = False) -> None:
    for outcome in docker_create(bench.context, names, CreateRequest(names[0]), new_id=new_id):
        if outcome.error:
            raise outcome.error


def _ours(bench: Bench) -> float:
    begun = time.monotonic()
    _make(bench, ["one"])
    where = _where(bench.context.store.load("one"))
    raw.wait_for_engine(where, credentials(bench.context).directory, begun + PATIENCE)
    seconds = time.monotonic() - begun
    bench.remove("one")
    return seconds


def _raw(bench: Bench) -> float:
    home = bench.context.layout
    record = bench.context.store.load_run("source")
    if record is None or record.base is None:
        raise RuntimeError("the source does not live in a base")
    lines = home.vm("source").identity.read_text().splitlines()[1:-1]
    text = document("raw", [*lines, clock_statement(time.time()), f"hooks {CLONE_HOOKS}"])
    with ExitStack() as stack:
        begun = time.monotonic()
        port = stack.enter_context(raw.Restored(list(record.argv), home.base(record.base).state, text, ENGINE_PORT))
        raw.wait_for_engine((raw.LOOPBACK, port), credentials(bench.context).directory, begun + PATIENCE)
        return time.monotonic() - begun


def _curve(bench: Bench) -> list[Result]:
    results = []
    for count in CURVE:
        bench.say(f"{count} Docker hosts at once")
        names = [f"d{number}" for number in range(count)]
        begun = time.monotonic()
        _make(bench, names)
        results.append(figure(f"{count} Docker hosts from request to all answering", time.monotonic() - begun, "s"))
        for name in names:
            bench.remove(name)
    return results


def _new_id(bench: Bench) -> Result:
    bench.say("one with an engine id of its own")
    begun = time.monotonic()
    _make(bench, ["own"], new_id=True)
    seconds = time.monotonic() - begun
    bench.remove("own")
    return figure("docker create --new-id", seconds, "s")
