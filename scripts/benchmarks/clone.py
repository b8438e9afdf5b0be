"""Instant clones: against the same states restored by plain QEMU and plain QMP; and what a freeze costs its source."""

from __future__ import annotations

import io
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from appcat.guest.identity import clock_statement, document
from appcat.guest.remote import Streams
from appcat.model.size import GIB, MIB
from appcat.model.vm import Vm
from appcat.services.clone import Cloned, CloneRequest, clone
from appcat.services.create import CreateRequest
from appcat.services.execute import execute
from appcat.services.guests import CLONE_HOOKS
from appcat.services.run import run
from appcat.services.stats import proportional_memory
from scripts.benchmarks import raw
from scripts.benchmarks.bench import Bench
from scripts.benchmarks.report import Result, figure, paired

BAR, MEMORY_BAR, SLOWDOWN_BAR = 1.3, 1.15, 2.5
CURVE = (1, 2, 4, 8, 16, 32, 64, 128)
MANY = 100
SETTLE = 5.0
PATIENCE = 120.0
FREEZES = 3


def measure(bench: Bench) -> list[Result]:
    """Everything about clones; a hundred and more vms live at once meanwhile."""
    run(bench.context, CreateRequest("source"), instant=True)
    results = [*_one(bench), *_through_the_command_line(bench), *_many(bench), *_curve(bench)]
    bench.remove("source")
    return results + [
        result for memory in (256 * MIB, GIB) for full in (False, True) for result in _freeze(bench, memory, full)
    ]


def _one(bench: Bench) -> list[Result]:
    bench.say(f"starting {bench.count} vms from the warm template, and as many states with plain QEMU")
    measured = []
    for number in range(bench.count + 1):
        order = (_ours, _raw) if number % 2 else (_raw, _ours)
        seconds = {step: step(bench) for step in order}
        measured.append((seconds[_ours], seconds[_raw]))
    return [paired("instant vm to SSH banner, services", measured[1:], BAR)]


def _ssh(vm: Vm) -> tuple[str, int]:
    return vm.ssh_forward.address, vm.ssh_port


def _ours(bench: Bench) -> float:
    begun = time.monotonic()
    vm = run(bench.context, CreateRequest("one"), instant=True)
    raw.wait_for_banner(_ssh(vm), begun + PATIENCE)
    seconds = time.monotonic() - begun
    bench.remove("one")
    return seconds


def _raw(bench: Bench) -> float:
    with ExitStack() as stack:
        begun = time.monotonic()
        port = stack.enter_context(_restored(bench))
        raw.wait_for_banner((raw.LOOPBACK, port), begun + PATIENCE)
        return time.monotonic() - begun


def _restored(bench: Bench) -> raw.Restored:
    """The base of ``source``, to be restored with its command line and an identity document made before."""
    home = bench.context.layout
    record = bench.context.store.load_run("source")
    if record is None or record.base is None:
        raise RuntimeError("the source does not live in a base")
    lines = home.vm("source").identity.read_text().splitlines()[1:-1]
    text = document("raw", [*lines, clock_statement(time.time()), f"hooks {CLONE_HOOKS}"])
    return raw.Restored(list(record.argv), home.base(record.base).state, text)


def _through_the_command_line(bench: Bench) -> list[Result]:
    bench.say("the same through the command line")
    script = Path(bench.home, "bare.py")
    script.write_text(raw.BARE_TYPER)
    program = str(Path(sys.executable).with_name("appcat"))
    measured = []
    for _ in range(bench.count):
        begun = time.monotonic()
        raw.timed_program([program, "vm", "run", "one", "--instant", "-q"], bench.env)
        raw.wait_for_banner(_ssh(bench.context.store.load("one")), begun + PATIENCE)
        ours = time.monotonic() - begun
        bench.remove("one")
        # At most 1.3 times raw, and one bare typer start on top.
        measured.append((ours, _raw(bench) + raw.bare_typer(bench.env, script) / BAR))
    return [paired("instant vm to SSH banner, command line", measured, BAR)]


def _many(bench: Bench) -> list[Result]:
    bench.say(f"{MANY} clones at once, and {MANY} states with plain QEMU")
    begun = time.monotonic()
    done = _clones(bench, MANY)
    ours = time.monotonic() - begun - done.base_seconds
    time.sleep(SETTLE)
    memory = sum(_memory(bench, outcome.name) for outcome in done.outcomes) / MANY
    seconds = [outcome.seconds for outcome in done.outcomes]
    _remove_all(bench, done)
    with ExitStack() as stack:
        states = [_restored(bench) for _ in range(MANY)]
        begun = time.monotonic()
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(stack.enter_context, states))
        theirs = time.monotonic() - begun
        time.sleep(SETTLE)
        raw_memory = sum(proportional_memory(state.pid) for state in states) / MANY
    first, last = sum(seconds[:10]) / 10, sum(seconds[-10:]) / 10
    return [
        paired(f"{MANY} clones alive: total", [(ours, theirs)], BAR),
        paired(f"{MANY} clones alive: memory of each", [(memory / MIB, raw_memory / MIB)], MEMORY_BAR, "MiB"),
        paired(f"{MANY} clones: the last ten against the first ten", [(last, first)], SLOWDOWN_BAR),
    ]


def _curve(bench: Bench) -> list[Result]:
    results = []
    for count in CURVE:
        bench.say(f"{count} clones")
        begun = time.monotonic()
        done = _clones(bench, count)
        results.append(figure(f"{count} clones from request to all alive", time.monotonic() - begun, "s"))
        _remove_all(bench, done)
    return results


def _clones(bench: Bench, count: int) -> Cloned:
    done = clone(bench.context, CloneRequest("source", tuple(f"c{number}" for number in range(count))))
    for outcome in done.outcomes:
        if outcome.error:
            raise outcome.error
    return done


def _remove_all(bench: Bench, done: Cloned) -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(bench.remove, [outcome.name for outcome in done.outcomes]))


def _memory(bench: Bench, name: str) -> int:
    record = bench.context.store.load_run(name)
    return proportional_memory(record.pid) if record and record.pid else 0


def _freeze(bench: Bench, memory: int, full: bool) -> list[Result]:
    """What a freeze costs, generation by generation."""
    what = f"{memory // MIB} MiB, mostly {'full' if full else 'empty'}"
    bench.say(f"freezing {what}")
    run(bench.context, CreateRequest("g0", memory=memory), instant=True)
    if full:
        _fill(bench, "g0", memory * 6 // 10)
    results = []
    for generation in range(1, FREEZES + 1):
        done = clone(bench.context, CloneRequest(f"g{generation - 1}", (f"g{generation}",)))
        if done.outcomes[0].error:
            raise done.outcomes[0].error
        name = f"freeze, {what}, generation {generation}"
        results.append(figure(f"{name}: stun", done.stun * 1000, "ms"))
        results.append(figure(f"{name}: base ready", done.base_seconds, "s"))
        results.append(figure(f"{name}: base takes", done.base_memory / MIB, "MiB"))
    for generation in range(FREEZES + 1):
        bench.remove(f"g{generation}")
    return results


def _fill(bench: Bench, name: str, size: int) -> None:
    script = f"mount -o remount,size=95% /dev/shm; tr '\\0' x </dev/zero | head -c {size} >/dev/shm/fill"
    output = io.BytesIO()
    if execute(bench.context, name, ["sh", "-c", script], Streams(None, output, output)) != 0:
        raise RuntimeError(output.getvalue().decode())
