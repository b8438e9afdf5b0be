"""Baselines, written out literally: plain QEMU, plain sockets, a bare typer program. Imports nothing of appcat."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import select
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

PATIENCE = 180.0
BANNER_INTERVAL = 0.1
BANNER_CONNECTIONS = 2
LOOPBACK = "127.0.0.1"
T = TypeVar("T")

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
    kernel: Path, initramfs: Path, arguments: str, memory: str, identity: Path, mac: str,
    disks: Mapping[str, Path] | None = None, guest_port: int = 22,
) -> Iterator[tuple[Path, int]]:  # fmt: skip
    """QEMU with no more than a guest needs to reach a milestone; gives the agent's socket and the host port that leads
    to ``guest_port``. ``disks`` are qcow2 files by the serial number that the guest knows each by.

    The MAC address is the one ``identity`` names: given another, the guest changes it late and hears no early packet.
    """
    with tempfile.TemporaryDirectory(prefix="appcat-bench-") as name:
        agent, port = Path(name, "agent.sock"), free_port()
        process = subprocess.Popen(
            ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none",
             "-machine", "q35", "-accel", "tcg", "-cpu", "max,la57=off", "-m", memory,
             "-kernel", str(kernel), "-initrd", str(initramfs), "-append", arguments,
             "-fw_cfg", f"name=opt/org.appcat/identity,file={identity}",
             "-serial", f"file:{name}/console.log",
             "-netdev", f"user,id=n,hostfwd=tcp:{LOOPBACK}:{port}-:{guest_port}",
             *_disk_arguments(disks or {}),
             "-device", f"virtio-net-pci,netdev=n,mac={mac},romfile=",
             "-device", "virtio-serial-pci", "-chardev", f"socket,id=a,path={agent},server=on,wait=off",
             "-device", "virtserialport,chardev=a,name=org.qemu.guest_agent.0"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        try:
            yield agent, port
        finally:
            process.kill()
            process.wait()


def _disk_arguments(disks: Mapping[str, Path]) -> Iterator[str]:
    for serial, file in disks.items():
        yield from ("-drive", f"if=none,id={serial},file={file},format=qcow2,discard=unmap")
        yield from ("-device", f"virtio-blk-pci,drive={serial},serial={serial}")


class Restored:
    """A saved state in a QEMU of its own, told who it is and reachable: what an instant clone is, by hand.

    ``argv`` is the command line of a machine of the same shape; only its sockets, logs and identity move to a directory
    of this machine's own, and its disks become overlays on what its own stand on. ``identity`` is the document for the
    guest program, its id being "raw". Entering gives the host port that leads to the guest's ``port``.
    """

    def __init__(self, argv: list[str], state: Path, identity: str, port: int = 22) -> None:
        self.argv, self.state, self.identity, self.port = argv, state, identity, port
        self.pid = 0

    def __enter__(self) -> int:
        self._directory = tempfile.TemporaryDirectory(prefix="appcat-bench-")
        here, port = Path(self._directory.name), free_port()
        (here / "identity").write_text("")
        sockets = {name: here / f"{name}.sock" for name in ("monitor", "guest")}
        self._process = subprocess.Popen(
            [_moved(argument, here) for argument in self.argv],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        self.pid = self._process.pid
        deadline = time.monotonic() + PATIENCE
        with _connected(sockets["monitor"], deadline) as monitor, self.state.open("rb") as state:
            lines = monitor.makefile()
            lines.readline()
            _qmp(monitor, lines, "qmp_capabilities")
            _qmp(monitor, lines, "migrate-set-capabilities",
                 capabilities=[{"capability": "x-ignore-shared", "state": True}])  # fmt: skip
            _qmp(monitor, lines, "getfd", descriptor=state.fileno(), fdname="state")
            _qmp(monitor, lines, "migrate-incoming", uri="fd:state")
            while _qmp(monitor, lines, "query-migrate").get("status") != "completed":
                _pause(deadline, "the state", 0.001)
            with _connected(sockets["guest"], deadline) as guest:
                guest.sendall(b"\n" + self.identity.encode())
                _qmp(monitor, lines, "cont")
                guest.settimeout(PATIENCE)
                answer = guest.makefile().readline()
                if answer != "ok raw\n":
                    raise RuntimeError(f"the guest says {answer!r}")
            forward = f"hostfwd_add net0 tcp:{LOOPBACK}:{port}-10.0.2.15:{self.port}"
            _qmp(monitor, lines, "human-monitor-command", **{"command-line": forward})
        return port

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._directory.cleanup()


def _moved(argument: str, here: Path) -> str:
    """An argument with its sockets and files in ``here``."""
    if argument.startswith("socket,id="):
        name = argument.split(",")[1].removeprefix("id=")
        log = f",logfile={here}/console.log" if "logfile=" in argument else ""
        return f"socket,id={name},path={here}/{name}.sock,server=on,wait=off{log}"
    if argument.startswith("name=opt/org.appcat/identity"):
        return f"name=opt/org.appcat/identity,file={here}/identity"
    if argument.startswith("local,id=share"):
        return ",".join(f"path={here}" if part.startswith("path=") else part for part in argument.split(","))
    if argument.startswith("{") and (found := re.search(r'"filename":"([^"]+)"', argument)):
        return argument.replace(found[1], str(_beside(Path(found[1]), here)))
    return argument


def _beside(disk: Path, here: Path) -> Path:
    """A blank overlay on what ``disk`` is an overlay on."""
    made = here / disk.name
    backing = json.loads(subprocess.check_output(["qemu-img", "info", "-U", "--output=json", disk]))
    overlay(made, Path(backing["full-backing-filename"]))
    return made


def overlay(made: Path, backing: Path | None, size: str = "") -> None:
    """A blank disk, on ``backing`` if that is given."""
    below = ["-b", str(backing), "-F", "qcow2"] if backing else []
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", *below, str(made), *([size] if size else [])], check=True
    )


def _qmp(
    monitor: socket.socket, lines: IO[str], command: str, descriptor: int | None = None, **arguments: object
) -> dict[str, Any]:
    line = json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n"
    if descriptor is None:
        monitor.sendall(line)
    else:
        socket.send_fds(monitor, [line], [descriptor])
    while True:
        answer = json.loads(lines.readline())
        if "error" in answer:
            raise RuntimeError(f"{command}: {answer['error']}")
        if "return" in answer:
            found = answer["return"]
            return found if isinstance(found, dict) else {}


def wait_for_engine(where: tuple[str, int], credentials: Path, deadline: float) -> None:
    """Until a Docker engine behind TLS at address and port has said its version."""
    context = ssl.create_default_context(cafile=str(credentials / "ca.pem"))
    context.load_cert_chain(credentials / "cert.pem", credentials / "key.pem")
    while True:
        connection = http.client.HTTPSConnection(*where, timeout=10.0, context=context)
        try:
            connection.request("GET", "/version")
            if "ApiVersion" in json.loads(connection.getresponse().read()):
                return
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        _pause(deadline, "the engine", 0.05)


def free_port() -> int:
    """A TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def wait_for_agent(path: Path, deadline: float) -> None:
    """Until the guest agent at ``path`` has answered ``guest-sync``.

    One connection, made as soon as QEMU listens: what is written early waits in the port until the agent reads it.
    """
    with _connected(path, deadline) as connection:
        connection.settimeout(max(deadline - time.monotonic(), 0.1))
        connection.sendall(b'{"execute":"guest-sync","arguments":{"id":7}}\n')
        if json.loads(connection.makefile().readline()).get("return") != 7:
            raise TimeoutError("the guest agent answered something else")


def _connected(path: Path, deadline: float) -> socket.socket:
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(path))
            return connection
        except OSError:
            connection.close()
            _pause(deadline, "QEMU", 0.002)


def wait_for_banner(where: tuple[str, int], deadline: float) -> None:
    """Until the SSH server behind address and port has sent its banner.

    QEMU accepts connections before the guest does, and one made too early stays silent for long. So a new one is made
    every ``BANNER_INTERVAL`` seconds beside those still open, and the first to hear anything ends the wait: waiting
    for each in turn would round the result to that patience. Few are open at a time, because every one that reaches
    the guest starts an SSH server there.
    """
    open_connections: list[socket.socket] = []
    try:
        while True:
            with contextlib.suppress(OSError):
                open_connections.append(socket.create_connection(where, timeout=1.0))
            if _one_speaks(open_connections, time.monotonic() + BANNER_INTERVAL):
                return
            while len(open_connections) > BANNER_CONNECTIONS:
                open_connections.pop(0).close()
            _pause(deadline, "SSH", 0.0)
    finally:
        for connection in open_connections:
            connection.close()


def _one_speaks(connections: list[socket.socket], until: float) -> bool:
    while (left := until - time.monotonic()) > 0:
        readable, _, _ = select.select(connections, [], [], left)
        for connection in readable:
            with contextlib.suppress(OSError):
                if connection.recv(4) == b"SSH-":
                    return True
            connections.remove(connection)
            connection.close()
    return False


def _pause(deadline: float, what: str, seconds: float) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError(f"{what} did not answer")
    time.sleep(seconds)


def milestones(agent: Path, ssh: tuple[str, int], start: float) -> Milestones:
    """Wait for both at once."""
    with ThreadPoolExecutor(1) as pool:
        banner = pool.submit(_elapsed, start, wait_for_banner, ssh)
        return Milestones(_elapsed(start, wait_for_agent, agent), banner.result())


def _elapsed(start: float, wait: Callable[[T, float], None], argument: T) -> float:
    wait(argument, start + PATIENCE)
    return time.monotonic() - start


def timed_program(argv: list[str], env: dict[str, str]) -> float:
    """Seconds that a program takes from start to exit."""
    start = time.monotonic()
    subprocess.run(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.monotonic() - start


def bare_typer(env: dict[str, str], script: Path) -> float:
    """Seconds for a typer program that does nothing."""
    return timed_program([sys.executable, str(script), "hello"], env)
