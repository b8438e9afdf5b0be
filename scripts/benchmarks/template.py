"""Templates with a root disk: what they take, and how long to build from packages that were fetched before."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

from appcat.build.builder import ensure_image
from appcat.services import templates
from scripts.benchmarks.bench import Bench
from scripts.benchmarks.report import Result, figure

NAMES = ("debian", "docker")
SIZE_BAR = 300.0
MB = 1e6


def measure(bench: Bench) -> list[Result]:
    """Sizes of what would travel, and build times in a cache that has packages and pico's kernel but no image."""
    results = []
    for name in NAMES:
        image = templates.ensure(bench.context, name).image
        results.append(figure(f"{name}: kernel, initramfs, disks", image.compressed_size / MB, "MB", SIZE_BAR))
    with tempfile.TemporaryDirectory(prefix="appcat-bench-", dir=bench.cache) as cache:
        shutil.copytree(bench.cache / "packages", Path(cache, "packages"))
        ctx = bench.context
        for name in NAMES:
            bench.say(f"building {name}")
            directory = templates.find(ctx, name)
            begun = time.monotonic()
            ensure_image(directory, directory.parent, Path(cache), lambda: ctx.host, ctx.progress)
            what = "build" if name == NAMES[0] else f"build, {NAMES[0]} built before"
            results.append(figure(f"{name}: {what}, packages fetched before", time.monotonic() - begun, "s"))
    return results
