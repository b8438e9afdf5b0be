"""Private networks: throughput and latency between two guests, against two plain QEMUs joined by ``stream``."""

from __future__ import annotations

import tempfile
from pathlib import Path

from appcat.build import cpio
from appcat.build.deb import unpack
from appcat.build.libraries import library_closure
from appcat.build.packages import Apt
from appcat.build.tree import Node
from appcat.model.vm import Arch
from scripts.benchmarks import segment

_FILE, _DIRECTORY = 0o100755, 0o040755


def tools(packages: Path) -> bytes:
    """iperf3 and what it needs, as a second initial file system: everything in ``segment.TOOLS``."""
    apt = Apt(packages, Arch.X86_64)
    apt.refresh()
    with tempfile.TemporaryDirectory(prefix="appcat-bench-") as name:
        root = Path(name)
        for archive in apt.fetch(apt.closure(["iperf3"]), lambda _done, _all: None):
            unpack(archive, root)
        files = ["usr/bin/iperf3", *library_closure(root, ["usr/bin/iperf3"], Arch.X86_64)]
        place = segment.TOOLS.lstrip("/")
        nodes = {f"{place}/{Path(file).name}": Node(_FILE, (root / file).read_bytes()) for file in files}
    nodes[f"{place}/loader"] = nodes[f"{place}/ld-linux-x86-64.so.2"]
    return cpio.archive({place: Node(_DIRECTORY), **nodes})
