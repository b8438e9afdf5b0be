"""Baselines, written out literally: plain QEMU, plain sockets, a bare typer program. Imports nothing of appcat."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 180.0
BANNER_PATIENCE = 0.3

BARE_TYPER = """
import typer
app = typer.Typer()

@app.command()
def hello(name: str = "world") -> None:
    print(f"hello {name}")

@app.command()
def other() -> None:
    print("other")

app()
"""


@dataclass(frozen=True)
class Milestones:
    """Seconds from power-on to an answering guest agent, and to the SSH server's banner."""

    agent: float
    banner: float


@contextlib.contextmanager
def plain_qemu(
    kernel: Path, initramfs: Path, arguments: str, memory: str, identity: Path
) -> Iterator[tuple[Path, int]]:
    """QEMU with no more than a guest needs to reach both milestones; gives the agent's socket and the SSH port."""
    with tempfile.TemporaryDirectory(prefix="appcat-bench-") as name:
        agent, port = Path(name, "agent.sock"), free_port()
        process = subprocess.Popen(
            ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none",
             "-machine", "q35", "-accel", "tcg", "-cpu", "max,la57=off", "-m", memory,
             "-kernel", str(kernel), "-initrd", str(initramfs), "-append", arguments,
             "-fw_cfg", f"name=opt/org.appcat/identity,file={identity}",
             "-serial", f"file:{name}/console.log",
             "-netdev", f"user,id=n,hostfwd=tcp:127.0.0.1:{port}-:22", "-device", "virtio-net-pci,netdev=n,romfile=",
             "-device", "virtio-serial-pci", "-chardev", f"socket,id=a,path={agent},server=on,wait=off",
             "-device", "virtserialport,chardev=a,name=org.qemu.guest_agent.0"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        try:
            yield agent, port
        finally:
            process.kill()
            process.wait()


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_agent(path: Path, deadline: float) -> None:
    """Until the guest agent at ``path`` has answered ``guest-sync``."""
    while True:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(max(deadline - time.monotonic(), 0.1))
            connection.connect(str(path))
            connection.sendall(b'{"execute":"guest-sync","arguments":{"id":7}}\n')
            if json.loads(connection.makefile().readline()).get("return") == 7:
                return
        _pause(deadline, "the guest agent")


def wait_for_banner(port: int, deadline: float) -> None:
    """Until the SSH server behind ``port`` has sent its banner.

    QEMU accepts connections before the guest does, and one made too early stays silent: so each gets little time.
    """
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
            connection.settimeout(BANNER_PATIENCE)
            if connection.recv(4) == b"SSH-":
                return
        _pause(deadline, "SSH")


def _pause(deadline: float, what: str) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError(f"{what} did not answer")
    time.sleep(0.01)


def milestones(agent: Path, port: int, start: float) -> Milestones:
    """Wait for both; whichever comes first is waited for first in practice (the banner)."""
    wait_for_banner(port, start + PATIENCE)
    banner = time.monotonic() - start
    wait_for_agent(agent, start + PATIENCE)
    return Milestones(time.monotonic() - start, banner)


def timed_program(argv: list[str], env: dict[str, str]) -> float:
    """Seconds that a program takes from start to exit."""
    start = time.monotonic()
    subprocess.run(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.monotonic() - start


def bare_typer(env: dict[str, str], script: Path) -> float:
    """Seconds for a typer program that does nothing."""
    return timed_program([sys.executable, str(script), "hello"], env)
