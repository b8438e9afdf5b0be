"""Baselines for networks, written out literally: two plain QEMUs on one segment, and iperf3 and ping between them."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.benchmarks.raw import PATIENCE, _connected, wait_for_agent

SUBNET = "10.99.0"
TOOLS = "/bench"  # where iperf3 and its libraries are in the guest
PINGS = 200


@dataclass(frozen=True)
class Image:
    """What the guests start from."""

    kernel: Path
    initramfs: Path
    arguments: str


@dataclass(frozen=True)
class Card:
    """A guest's card on the segment: QEMU's backend for it (``-netdev``, the id being s), and the descriptors of it.

    ``needs`` is a socket that another QEMU has to have made: one that is too early for it never tries again.
    """

    netdev: str
    device: str = ""
    inherit: tuple[int, ...] = ()
    needs: Path | None = None


class Guest:
    """A plain QEMU whose guest answers its agent; used as a context manager."""

    def __init__(self, image: Image, number: int, card: Card) -> None:
        self.image, self.number, self.card = image, number, card
        self.address = f"{SUBNET}.{number}"

    def __enter__(self) -> Guest:
        while self.card.needs and not self.card.needs.exists():
            time.sleep(0.01)
        self._directory = tempfile.TemporaryDirectory(prefix="appcat-bench-")
        self.agent = Path(self._directory.name, "agent.sock")
        self._process = subprocess.Popen(
            ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none",
             "-machine", "q35", "-accel", "tcg", "-cpu", "max,la57=off", "-m", "256M",
             "-kernel", str(self.image.kernel), "-initrd", str(self.image.initramfs),
             "-append", self.image.arguments,
             "-serial", f"file:{self._directory.name}/console.log",
             "-netdev", self.card.netdev,
             "-device", f"virtio-net-pci,netdev=s,mac=52:54:00:99:00:{self.number:02x},romfile={self.card.device}",
             "-device", "virtio-serial-pci", "-chardev", f"socket,id=a,path={self.agent},server=on,wait=off",
             "-device", "virtserialport,chardev=a,name=org.qemu.guest_agent.0"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=self.card.inherit)  # fmt: skip
        self.pid = self._process.pid
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._directory.cleanup()

    def join(self) -> None:
        """Wait for the guest and give its card an address."""
        wait_for_agent(self.agent, time.monotonic() + PATIENCE)
        self.run(f"ip link set eth0 up; ip address flush dev eth0; ip address add {self.address}/24 dev eth0")

    def run(self, line: str, patience: float = 60.0) -> str:
        """What a shell line prints; raises RuntimeError when it fails."""
        with contextlib.closing(_connected(self.agent, time.monotonic() + 5.0)) as agent:
            lines = agent.makefile()
            asked = {"path": "/bin/sh", "arg": ["-c", line], "capture-output": True}
            pid = _ask(agent, lines, "guest-exec", asked)["pid"]
            deadline = time.monotonic() + patience
            while not (done := _ask(agent, lines, "guest-exec-status", {"pid": pid}))["exited"]:
                if time.monotonic() > deadline:
                    raise TimeoutError(line)
                time.sleep(0.1)
        output = base64.b64decode(done.get("out-data", "")).decode()
        if done.get("exitcode"):
            raise RuntimeError(f"{line}: {output} {base64.b64decode(done.get('err-data', '')).decode()}")
        return output


def _ask(agent: socket.socket, lines: Any, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
    agent.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
    answer = json.loads(lines.readline())
    if "error" in answer:
        raise RuntimeError(f"{command}: {answer['error']}")
    found = answer["return"]
    assert isinstance(found, dict)
    return found


@contextlib.contextmanager
def joined(image: Image, cards: Sequence[Card]) -> Iterator[list[Guest]]:
    """Guests on one segment, with addresses."""
    with contextlib.ExitStack() as stack:
        guests = [stack.enter_context(Guest(image, number, card)) for number, card in enumerate(cards, start=1)]
        for guest in guests:
            guest.join()
        yield guests


def iperf3(guest: Guest, *arguments: str) -> str:
    """What iperf3 in a guest prints."""
    return guest.run(f"{TOOLS}/loader --library-path {TOOLS} {TOOLS}/iperf3 {' '.join(arguments)}")


def meet(one: Guest, other: Guest) -> None:
    """Wait until ``other`` answers: a card of stream has no carrier at first."""
    one.run(f"until ping -c 1 -W 1 {other.address}; do :; done")


def throughput(one: Guest, other: Guest, seconds: float = 5.0, *options: str) -> float:
    """Megabits per second of one TCP connection, as they arrive at ``other``."""
    meet(one, other)
    iperf3(other, "-s", "-1", "-D")
    time.sleep(0.5)
    report = json.loads(iperf3(one, "-c", other.address, "-t", str(seconds), "-J", *options))
    return float(report["end"]["sum_received"]["bits_per_second"]) / 1e6


def latency(one: Guest, other: Guest) -> float:
    """Milliseconds of a round trip: the mean of many pings; the first one, which asks for the card, is not counted."""
    meet(one, other)
    output = one.run(f"ping -q -i 0.01 -c {PINGS} {other.address}")
    found = re.search(r"= [\d.]+/([\d.]+)/", output)
    if not found:
        raise RuntimeError(output)
    return float(found[1])


def stream_pair(directory: Path) -> list[Card]:
    """Point to point: QEMU's ``stream``, the baseline."""
    path = directory / "stream.sock"
    address = f"addr.type=unix,addr.path={path}"
    return [Card(f"stream,id=s,server=on,{address}"), Card(f"stream,id=s,server=off,{address}", needs=path)]
