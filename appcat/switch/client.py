"""Asking the switch: ports for the cards of vms on networks, opened first and joined to their networks later.

Whoever asks starts the switch when it is not there. It may be killed at any time: with the bridge, traffic goes on;
with the hub, it goes on once the next switch is there.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from appcat.checks import Check, unchecked
from appcat.errors import NetworkError, from_os_error
from appcat.model.machine import Backend, HubPort, SwitchPort, TapPort
from appcat.store import locks
from appcat.store.files import claim_runtime_directory, make_private_directory
from appcat.store.layout import Layout
from appcat.switch import verdict as verdicts
from appcat.switch import wire
from appcat.switch.files import Files
from appcat.switch.verdict import Verdict

__all__ = ["Backend", "Look", "Port", "Verdict", "backend", "connect", "end", "ensure", "forget", "look"]
__all__ += ["open_ports", "port_name", "verdict"]

PATIENCE = 15.0  # seconds until a switch that starts must have answered
ANSWER = 10.0  # seconds for an answer
BUSY_PORT = 3.0  # seconds that the QEMU which had a port may take to be gone
POLL, LONGEST_PAUSE = 0.01, 0.5
_NAMESPACES = 2


@dataclass
class Port:
    """A port for one card: how QEMU is wired to it, and what QEMU must inherit.

    ``inherit``: the tap, then the network and the user namespace, which live on with QEMU; nothing of a hub.
    """

    wiring: SwitchPort
    inherit: tuple[int, ...] = ()

    def close(self) -> None:
        """Let go of the descriptors; QEMU has its own by now, or there is no port."""
        wire.close(list(self.inherit))
        self.inherit = ()


@dataclass(frozen=True)
class Look:
    """What is there: the backend that vms are on (None: none is), the switch's process if it runs, and the connected
    ports of each network.
    """

    backend: Backend | None
    pid: int | None
    networks: dict[str, list[str]]


def port_name(uuid: str, slot: int) -> str:
    """The name of a vm's port: as short as names of interfaces must be."""
    return f"{uuid.replace('-', '')[:12]}-{slot}"


def verdict(layout: Layout) -> Verdict:
    """The backend this host gets, and why; raises InvalidInput for an unknown APPCAT_SWITCH."""
    return verdicts.verdict(layout.switch_verdict, layout.settings.switch)


def backend(layout: Layout) -> Backend:
    """The backend that the next port will have: the one that living ports have, else the host's."""
    return look(layout).backend or verdict(layout).backend


def open_ports(layout: Layout, names: Sequence[str], check: Check = unchecked) -> list[Port]:
    """Ports that are on no network yet, to be closed by the caller once QEMU has been started.

    Starts the switch where there is none. Raises NetworkError, or Unavailable for an unsafe runtime directory, and
    what ``check`` raises.
    """
    if not names:
        return []
    request: dict[str, object] = {"do": "open", "ports": list(names), "backend": verdict(layout).backend}
    deadline = time.monotonic() + BUSY_PORT
    while True:
        try:
            answer, descriptors = _ask(layout, request, check)
            return _ports(answer, descriptors)
        except NetworkError as error:
            if error.code != "port-busy" or time.monotonic() > deadline:
                raise
        check()
        time.sleep(POLL)


def connect(layout: Layout, joins: Sequence[tuple[str, str]]) -> None:
    """Join ports (by name) to networks: from now on frames flow. Done again, it changes nothing.

    Raises NetworkError, also for a port that no QEMU has any more.
    """
    if joins:
        _ask(layout, {"do": "connect", "joins": [list(join) for join in joins]})


def forget(layout: Layout, names: Sequence[str]) -> None:
    """Say that ports are gone, their cards having been taken away or their vm having stopped."""
    files = Files(str(layout.settings.runtime))
    gone = sorted(set(names) & set(files.ports()))
    if gone:  # only a hub has files of ports; a tap is gone with its QEMU
        _ask(layout, {"do": "forget", "ports": gone})


def ensure(layout: Layout) -> None:
    """Have a switch that answers, started where there is none; raises NetworkError."""
    _ask(layout, {"do": "greet"})


def look(layout: Layout) -> Look:
    """What is there; starts nothing that stays. Raises NetworkError for a switch that does not answer."""
    channel = _reach(layout)
    if channel is None:
        return _look_without(layout)
    with channel:
        try:
            answer, _ = _converse(channel, {"do": "look"})
        except EOFError:
            return _look_without(layout)
    if answer.get("again"):
        return _look_without(layout)
    return _as_look(answer)


def end(layout: Layout) -> None:
    """End the switch, if it runs; what traffic there is goes on with the bridge, and stops with the hub."""
    channel = _reach(layout)
    if channel is not None:
        with channel, contextlib.suppress(EOFError, NetworkError):
            _converse(channel, {"do": "end"})
    deadline = time.monotonic() + ANSWER
    while locks.is_held(layout.switch_directory / "lock") and time.monotonic() < deadline:
        time.sleep(POLL)


def _ports(answer: dict[str, object], descriptors: list[int]) -> list[Port]:
    told = answer["ports"]
    assert isinstance(told, list)
    if answer["backend"] == Backend.HUB:
        return [Port(HubPort(Path(port["local"]), Path(port["hub"]), int(port["mtu"]))) for port in told]
    namespaces, taps = descriptors[:_NAMESPACES], descriptors[_NAMESPACES:]
    try:
        return [Port(TapPort(tap), (tap, *map(os.dup, namespaces))) for tap in taps]
    finally:
        wire.close(namespaces)


def _ask(layout: Layout, request: dict[str, object], check: Check = unchecked) -> tuple[dict[str, object], list[int]]:
    """The switch's answer, by one that runs or one that is started; raises what it refuses as NetworkError."""
    deadline, pause = time.monotonic() + PATIENCE, POLL
    while True:
        channel = _reach(layout) or _start(layout)
        with channel, contextlib.suppress(EOFError):  # it ended just now, or another one was first to start
            answer, descriptors = _converse(channel, request)
            if not answer.get("again"):
                return answer, descriptors
        if time.monotonic() > deadline:
            raise NetworkError(
                "the switch of private networks does not start",
                hint=f"see {layout.switch_directory / 'log'}",
                code="switch-failed",
            )
        check()
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def _converse(channel: socket.socket, request: dict[str, object]) -> tuple[dict[str, object], list[int]]:
    """Ask and be answered; raises EOFError when the switch ends instead, NetworkError."""
    channel.settimeout(ANSWER)
    try:
        wire.send(channel, {**request, "protocol": wire.PROTOCOL}, [])
        answer, descriptors = wire.receive(channel)
    except TimeoutError as error:
        raise NetworkError(
            "the switch of private networks does not answer",
            hint="try again; if it stays so, end its process (appcat.switch): the next command starts another",
            code="switch-failed",
        ) from error
    except (OSError, ValueError) as error:
        raise EOFError(str(error)) from error
    refusal = answer.get("error")
    if isinstance(refusal, dict):
        raise NetworkError(str(refusal["message"]), hint=str(refusal["hint"]), code=str(refusal["code"]))
    return answer, descriptors


def _reach(layout: Layout) -> socket.socket | None:
    """A connection to the switch that runs, if any does."""
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        channel.settimeout(ANSWER)
        channel.connect(str(layout.switch_socket))
        return channel
    except OSError:
        channel.close()
        return None


def _start(layout: Layout) -> socket.socket:
    """Start a switch; the connection returned is its first one. It ends at once where there is another."""
    claim_runtime_directory(layout.settings.runtime)
    make_private_directory(layout.switch_directory)
    ours, its = socket.socketpair()
    line = [sys.executable, "-m", "appcat.switch", "serve", str(layout.settings.runtime), str(layout.home)]
    line += [verdict(layout).backend, str(its.fileno())]
    try:
        with its, (layout.switch_directory / "log").open("ab") as log:
            subprocess.Popen(
                line,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                pass_fds=(its.fileno(),),
                cwd="/",
            )
    except OSError as error:
        ours.close()
        raise from_os_error(error, "starting the switch") from error
    return ours


def _look_without(layout: Layout) -> Look:
    """What goes on without a switch: bridges need none, and a hub is missed."""
    files = Files(str(layout.settings.runtime))
    if not files.ports() and files.boot_inode() is None:
        return Look(None, None, {})
    line = [sys.executable, "-m", "appcat.switch", "look", str(layout.settings.runtime)]
    try:
        done = subprocess.run(line, capture_output=True, stdin=subprocess.DEVNULL, timeout=ANSWER, cwd="/")
        return _as_look(json.loads(done.stdout))
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise NetworkError(f"cannot look at the networks: {error}", hint="try again") from error


def _as_look(answer: dict[str, object]) -> Look:
    networks, pid = answer["networks"], answer.get("pid")
    assert isinstance(networks, dict)
    name = str(answer["backend"])
    return Look(Backend(name) if name else None, pid if isinstance(pid, int) else None, networks)
