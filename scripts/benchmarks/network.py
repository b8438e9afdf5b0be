"""Private networks: throughput and latency between two guests, against two plain QEMUs joined by ``stream``.

All guests boot once and are measured in turn. Those of ours are plain QEMUs as well, at ports of appcat's switch.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from appcat.build import cpio
from appcat.build.deb import unpack
from appcat.build.libraries import library_closure
from appcat.build.packages import Apt
from appcat.build.tree import Node
from appcat.model.machine import Backend, SwitchPort, TapPort
from appcat.model.vm import Arch
from appcat.services import templates
from appcat.settings import Settings
from appcat.store.files import make_private_directory
from appcat.store.layout import Layout
from appcat.switch import client
from scripts.benchmarks import segment
from scripts.benchmarks.bench import Bench
from scripts.benchmarks.report import Result, paired
from scripts.benchmarks.segment import Card, Guest, Image

LEAST = {Backend.BRIDGE: 1.5, Backend.HUB: 0.5}
NETWORK, PORTS = "bench", ("bench-1", "bench-2")
SECONDS = 4.0
_FILE, _DIRECTORY = 0o100755, 0o040755


def measure(bench: Bench) -> list[Result]:
    """Megabits per second of one TCP connection, and milliseconds of a round trip, of either backend."""
    bench.say(f"two guests on a segment, {bench.count} times each: stream, bridge, hub")
    with contextlib.ExitStack() as stack:
        image = _image(bench)
        baseline = stack.enter_context(_plain(image))
        ours = {backend: stack.enter_context(_on_a_switch(bench, image, backend)) for backend in _backends(bench)}
        speeds: dict[str, list[float]] = {}
        trips: dict[str, list[float]] = {}
        for number in range(bench.count):
            for name, guests in {"stream": baseline, **ours}.items():
                one, other = guests if number % 2 else guests[::-1]
                speeds.setdefault(name, []).append(segment.throughput(one, other, SECONDS))
                trips.setdefault(name, []).append(segment.latency(one, other))
    return [
        result
        for backend in ours
        for result in (
            paired(
                f"vm to vm, {backend}: TCP",
                list(zip(speeds[backend], speeds["stream"], strict=True)),
                LEAST[backend],
                "Mbit/s",
                least=True,
            ),
            paired(f"vm to vm, {backend}: ping", list(zip(trips[backend], trips["stream"], strict=True)), None, "ms"),
        )
    ]


def _backends(bench: Bench) -> list[Backend]:
    here = client.verdict(bench.context.layout).backend
    return [Backend.BRIDGE, Backend.HUB] if here is Backend.BRIDGE else [Backend.HUB]


def _image(bench: Bench) -> Image:
    stored = templates.ensure(bench.context, "pico")
    initramfs = bench.home / "initramfs"
    data = stored.rootfs.read_bytes()
    initramfs.write_bytes(data + b"\0" * (-len(data) % 4) + tools(bench.home / "packages"))
    return Image(stored.vmlinux, initramfs, stored.image.arguments)


@contextlib.contextmanager
def _plain(image: Image) -> Iterator[list[Guest]]:
    with (
        tempfile.TemporaryDirectory(prefix="appcat-bench-") as name,
        segment.joined(image, segment.stream_pair(Path(name))) as guests,
    ):
        yield guests


@contextlib.contextmanager
def _on_a_switch(bench: Bench, image: Image, backend: Backend) -> Iterator[list[Guest]]:
    home = bench.home / backend
    make_private_directory(home)
    given = bench.context.settings
    layout = Layout(
        Settings.load({"APPCAT_HOME": str(home), "APPCAT_CACHE": str(given.cache), "APPCAT_SWITCH": backend})
    )
    try:
        ports = client.open_ports(layout, PORTS)
        with contextlib.ExitStack() as stack:
            cards = [_card(port) for port in ports]
            guests = [stack.enter_context(Guest(image, number, card)) for number, card in enumerate(cards, start=1)]
            for port in ports:
                port.close()
            client.connect(layout, [(name, NETWORK) for name in PORTS])
            for guest in guests:
                guest.join()
            yield guests
    finally:
        client.end(layout)


def _card(port: client.Port) -> Card:
    wiring: SwitchPort = port.wiring
    if isinstance(wiring, TapPort):
        return Card(f"tap,id=s,fd={wiring.descriptor}", inherit=port.inherit)
    sockets = f"local.type=unix,local.path={wiring.local},remote.type=unix,remote.path={wiring.hub}"
    return Card(f"dgram,id=s,{sockets}", device=f",host_mtu={wiring.mtu}")


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
