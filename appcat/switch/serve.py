"""The process: one per home, answering at the control socket until nobody needs it."""

from __future__ import annotations

import fcntl
import os
import selectors
import socket
import sys
import time

from appcat.errors import AppcatError, NetworkError
from appcat.switch import wire
from appcat.switch.bridge import Bridge
from appcat.switch.bridge import find as find_namespace
from appcat.switch.files import Files, remove
from appcat.switch.hub import Hub, living_ports

TICK = 5.0  # seconds between looks at what lives
IDLE = 60.0  # seconds without ports and requests after which the process ends
SILENCE = 30.0  # seconds a client may take for its request
LOG_LIMIT = 1 << 18


class Connection:
    """A client, and what it has said so far."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self.said = b""
        self.since = time.monotonic()


class Switch:
    """Serves one home. Holds the lock, which is given up only by the end of the process."""

    def __init__(self, files: Files, home: str, wanted: str, lock: int) -> None:
        self.files, self.home, self.lock = files, home, lock
        self.selector = selectors.DefaultSelector()
        self.connections: set[Connection] = set()
        self.ending = False
        self.idle_since = time.monotonic()
        self.listener = _listen(files.socket)
        self.selector.register(self.listener, selectors.EVENT_READ)
        self.backend = _backend(files, wanted, self.selector)

    def attend(self, channel: socket.socket) -> None:
        """Answer a client that is connected already."""
        channel.setblocking(False)
        connection = Connection(channel)
        self.connections.add(connection)
        self.selector.register(channel, selectors.EVENT_READ, connection)

    def run(self) -> None:
        """Serve until there is nothing to serve."""
        due = time.monotonic() + TICK
        while not self.ending:
            self._round(max(due - time.monotonic(), 0.0))
            if time.monotonic() >= due:
                due = time.monotonic() + TICK
                self._tick()
        self._leave()

    def _round(self, patience: float) -> None:
        hub = self.backend if isinstance(self.backend, Hub) else None
        sooner = hub.patience() if hub else None
        for key, events in self.selector.select(patience if sooner is None else min(sooner, patience)):
            if key.data is None:
                self._accept()
            elif isinstance(key.data, Connection):
                self._read(key.data)
            elif hub:
                hub.ready(key.data, events)
        if hub:
            hub.round()

    def _tick(self) -> None:
        now = time.monotonic()
        for connection in [one for one in self.connections if now - one.since > SILENCE]:
            self._hang_up(connection)
        bound_log()
        if not os.path.isdir(self.home) or not _is_same(self.lock, self.files.lock):
            say("the home is gone")
            self.ending = True
        elif self.backend.living() or self.connections:
            self.idle_since = now
        elif now - self.idle_since > IDLE:
            self.ending = True

    def _leave(self) -> None:
        if _is_same(self.lock, self.files.lock):
            remove(self.files.socket)
        say("ended")

    def _accept(self) -> None:
        try:
            channel, _ = self.listener.accept()
        except OSError:
            return
        self.attend(channel)

    def _read(self, connection: Connection) -> None:
        try:
            data = connection.channel.recv(wire.LONGEST)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        connection.said += data
        if not data or len(connection.said) > wire.LONGEST:
            self._hang_up(connection)
        elif connection.said.endswith(b"\n"):
            line, connection.said = connection.said, b""
            connection.since = self.idle_since = time.monotonic()
            self._answer(connection, line)

    def _answer(self, connection: Connection, line: bytes) -> None:
        descriptors: list[int] = []
        try:
            answer, descriptors = self._do(wire.decode(line))
        except AppcatError as error:
            answer = _told(error)
        except (OSError, ValueError, KeyError, TypeError) as error:
            say(f"refused {line!r}: {error!r}")
            answer = _told(NetworkError(f"the switch could not do it: {error}", hint="run 'appcat doctor'"))
        try:
            wire.send(connection.channel, answer, descriptors)  # small: a client that does not read loses it
        except OSError:
            self._hang_up(connection)
        finally:
            wire.close(descriptors)

    def _do(self, request: dict[str, object]) -> tuple[dict[str, object], list[int]]:
        verb, backend = request["do"], self.backend
        if request["protocol"] != wire.PROTOCOL or self._is_other(request):
            self.ending = True
            return {"again": True}, []
        if verb == "open":
            ports, descriptors = backend.open(_names(request["ports"]))
            return {"backend": backend.name, "ports": ports}, descriptors
        if verb == "connect":
            backend.connect(_joins(request["joins"]))
        elif verb == "forget":
            backend.forget(_names(request["ports"]))
        elif verb == "end":
            self.ending = True
        elif verb == "look":
            return {"backend": backend.name, "pid": os.getpid(), "networks": backend.look()}, []
        elif verb != "greet":
            raise ValueError(f"unknown verb {verb}")
        return {}, []

    def _is_other(self, request: dict[str, object]) -> bool:
        """Whether another backend is wanted for ports, and there is none yet that would be cut off from it."""
        wanted = request.get("backend", self.backend.name)
        return request["do"] == "open" and wanted != self.backend.name and not self.backend.living()

    def _hang_up(self, connection: Connection) -> None:
        self.connections.discard(connection)
        self.selector.unregister(connection.channel)
        connection.channel.close()


def main(runtime: str, home: str, wanted: str, first: int) -> int:
    """Serve ``home`` and at once the client at descriptor ``first``; 1 when another process does already."""
    os.umask(0o077)
    files = Files(runtime)
    lock = os.open(files.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return 1
    if not _is_same(lock, files.lock):
        return 1
    client = socket.socket(fileno=first)
    try:
        switch = Switch(files, home, wanted, lock)
    except OSError as error:
        say(f"could not start: {error}")
        _refuse(client, error)
        return 2
    say(f"started, {switch.backend.name}")
    switch.attend(client)
    switch.run()
    return 0


def show(runtime: str) -> int:
    """Print the connected ports as JSON, of a home whose switch does not run."""
    import json

    files = Files(runtime)
    hub = living_ports(files)
    found = find_namespace(files) if sys.platform == "linux" and not hub else None
    networks: dict[str, list[str]] = {}
    if found is not None:
        from appcat.switch import bridge, namespace, netlink

        namespace.enter(found)
        networks = bridge.look(netlink.Links())
    for port, network in hub.items():
        if network:
            networks.setdefault(network, []).append(port)
    backend = "hub" if hub else "bridge" if found is not None else ""
    print(json.dumps({"backend": backend, "networks": networks}))
    return 0


def say(text: str) -> None:
    """A line for the log, which is standard error."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    print(f"{stamp} {os.getpid()} {text}", file=sys.stderr, flush=True)


def bound_log() -> None:
    """Cut the log when it has become large."""
    try:
        if os.fstat(2).st_size > LOG_LIMIT:
            os.ftruncate(2, 0)
    except OSError:
        pass


def _backend(files: Files, wanted: str, selector: selectors.BaseSelector) -> Bridge | Hub:
    """What living vms are on, whatever is wanted: they are not to be cut off from those that come."""
    if living_ports(files):
        return Hub(files, selector)
    if sys.platform == "linux" and (wanted == Bridge.name or find_namespace(files) is not None):
        return Bridge(files)
    return Hub(files, selector)


def _listen(path: str) -> socket.socket:
    remove(path)  # the lock is ours, so nobody listens there
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen(64)
    listener.setblocking(False)
    return listener


def _refuse(client: socket.socket, error: OSError) -> None:
    told = _told(NetworkError(f"the host refuses the switch: {error}", hint="run 'appcat doctor'"))
    try:
        wire.receive(client)
        wire.send(client, told, [])
    except (OSError, EOFError, ValueError):
        pass


def _told(error: AppcatError) -> dict[str, object]:
    return {"error": {"message": error.message, "hint": error.hint, "code": error.code}}


def _is_same(descriptor: int, path: str) -> bool:
    try:
        named = os.stat(path)
    except OSError:
        return False
    opened = os.fstat(descriptor)
    return (named.st_dev, named.st_ino) == (opened.st_dev, opened.st_ino)


def _names(given: object) -> list[str]:
    names = [str(name) for name in given] if isinstance(given, list) else []
    for name in names:
        if not 0 < len(name) <= 15 or not name.replace("-", "").isalnum():
            raise ValueError(f"{name!r} is no name of a port")
    return names


def _joins(given: object) -> list[tuple[str, str]]:
    pairs = [(str(port), str(network)) for port, network in given] if isinstance(given, list) else []
    _names([port for port, _ in pairs])
    return pairs
