"""What things take: build time, sizes, memory of an idle vm, the keeper."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import psutil

from appcat.build.builder import ensure_image
from appcat.services import templates
from appcat.services.create import CreateRequest, create
from appcat.services.start import start
from scripts.benchmarks.bench import Bench
from scripts.benchmarks.report import Result, figure

SIZE_BAR = 13.0
SETTLE = 20.0
WATCH = 20.0
MB, MIB = 1e6, 1 << 20


def measure(bench: Bench) -> list[Result]:
    """Figures without a baseline."""
    image = templates.ensure(bench.context, "pico").image
    return [
        figure("pico: kernel + initramfs", image.compressed_size / MB, "MB", SIZE_BAR),
        figure("pico: decompressed kernel (cache)", image.vmlinux.size / MB, "MB"),
        figure("pico: build, packages fetched before", _build_seconds(bench), "s"),
        *_idle(bench),
    ]


def _build_seconds(bench: Bench) -> float:
    bench.say("building pico twice in an empty cache")
    directory = templates.find(bench.context, "pico")
    with tempfile.TemporaryDirectory(prefix="appcat-bench-") as cache:
        ctx = bench.context
        ensure_image(directory, directory.parent, Path(cache), lambda: ctx.host, ctx.progress)
        begin = time.monotonic()
        ensure_image(directory, directory.parent, Path(cache), lambda: ctx.host, ctx.progress, rebuild=True)
        return time.monotonic() - begin


def _idle(bench: Bench) -> list[Result]:
    bench.say("watching an idle vm and the keeper")
    create(bench.context, CreateRequest("idle"))
    start(bench.context, "idle")
    time.sleep(SETTLE)
    run = bench.context.store.load_run("idle")
    keeper = _keeper(bench.home)
    if run is None or run.pid is None or keeper is None:
        raise RuntimeError("the idle vm or its keeper is not running")
    qemu = psutil.Process(run.pid)
    before = [_cpu_seconds(process) for process in (qemu, keeper)]
    time.sleep(WATCH)
    used = [_cpu_seconds(process) - then for process, then in zip((qemu, keeper), before, strict=True)]
    results = [
        figure("idle pico: proportional memory", qemu.memory_full_info().pss / MIB, "MiB"),
        figure("idle pico: CPU", 100 * used[0] / WATCH, "% of a core"),
        figure("keeper: proportional memory", keeper.memory_full_info().pss / MIB, "MiB"),
        figure("keeper: CPU", 100 * used[1] / WATCH, "% of a core"),
    ]
    bench.remove("idle")
    return results


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _keeper(home: Path) -> psutil.Process | None:
    for process in psutil.process_iter():
        try:
            if "appcat.keeper" in process.cmdline() and process.environ().get("APPCAT_HOME") == str(home):
                return process
        except psutil.Error:
            continue
    return None
