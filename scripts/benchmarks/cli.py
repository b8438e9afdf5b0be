"""The command line's own weight, against a typer program that does nothing."""

from __future__ import annotations

import sys
from pathlib import Path

from appcat.services.create import CreateRequest, create
from appcat.services.start import start
from scripts.benchmarks import raw
from scripts.benchmarks.bench import Bench
from scripts.benchmarks.report import Result, pairs

MACHINES, RUNNING = 100, 5
LIST_BAR, VERSION_BAR = 2.0, 1.3


def measure(bench: Bench) -> list[Result]:
    """``version`` and ``vm list`` with 100 vms of which 5 run."""
    bench.say(f"making {MACHINES} vms, starting {RUNNING}")
    for number in range(MACHINES):
        create(bench.context, CreateRequest(f"n{number:03}"))
    for number in range(RUNNING):
        start(bench.context, f"n{number:03}")
    script = Path(bench.home, "bare.py")
    script.write_text(raw.BARE_TYPER)
    bench.say("timing the command line")
    return [
        _compare(bench, script, "appcat version", ["version"], VERSION_BAR),
        _compare(bench, script, f"appcat vm list, {MACHINES} vms, {RUNNING} running", ["vm", "list"], LIST_BAR),
    ]


def _compare(bench: Bench, script: Path, name: str, args: list[str], bar: float) -> Result:
    program = str(Path(sys.executable).with_name("appcat"))
    count = max(bench.count, 15)
    raw.bare_typer(bench.env, script)
    return pairs(
        name,
        lambda: raw.timed_program([program, *args], bench.env),
        lambda: raw.bare_typer(bench.env, script),
        count,
        bar,
    )
