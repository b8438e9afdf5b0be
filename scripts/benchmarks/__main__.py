"""``scripts/bench``: figures and ratios, each against a baseline measured in the same run."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

from scripts.benchmarks import boot, cli, clone, daemon, docker, footprint, membership, network, peers, template
from scripts.benchmarks.bench import Bench
from scripts.benchmarks.report import as_json, as_table

PARTS = {
    "boot": boot.measure,
    "footprint": footprint.measure,
    "clone": clone.measure,
    "cli": cli.measure,
    "daemon": daemon.measure,
    "network": network.measure,
    "membership": membership.measure,
    "docker": docker.measure,
    "template": template.measure,
}


def main() -> int:
    """Run the benchmarks; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print a list of {name, value, baseline, ratio, ...}")
    parser.add_argument("--peers", action="store_true", help="also measure peers (installs them from PyPI)")
    parser.add_argument("--pairs", type=int, default=7, help="interleaved pairs per comparison (default 7)")
    parser.add_argument("--only", choices=PARTS, action="append", help="measure this part; may be repeated")
    options = parser.parse_args()
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    cache = Path(os.environ.get("APPCAT_TEST_CACHE") or f"{base}/appcat-test")
    home = Path(tempfile.mkdtemp(prefix="appcat-bench-"))
    bench = Bench(home, cache, options.pairs, quiet=options.json)
    try:
        results = [result for name in options.only or PARTS for result in PARTS[name](bench)]
        if options.peers:
            results += peers.measure(bench)
    finally:
        bench.clean_up()
        shutil.rmtree(home, ignore_errors=True)
    print(as_json(results) if options.json else as_table(results))
    return 0 if all(result.ok for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
