"""A daemon of a home, and a client of its API that tests read like curl."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, unix_connect

from appcat.app import App
from appcat.services.context import Context
from appcat.settings import Settings
from tests.cat import PATIENCE, Cat, wait_until

JSON = {"Content-Type": "application/json"}


@dataclass
class Api:
    """One daemon, by its unix socket."""

    cat: Cat
    socket: Path
    http: httpx.Client
    process: subprocess.Popen[bytes]

    def call(self, method: str, path: str, body: Any = None, status: int = 200, **options: Any) -> Any:
        """The answer's JSON; the test fails when its status is another."""
        answer = self.send(method, path, body, **options)
        assert answer.status_code == status, f"{method} {path} -> {answer.status_code} {answer.text}"
        return answer.json()

    def send(self, method: str, path: str, body: Any = None, **options: Any) -> httpx.Response:
        if body is not None:
            options["content"] = json.dumps(body)
            options["headers"] = {**JSON, **options.get("headers", {})}
        return self.http.request(method, path, **options)

    def fails(self, code: str, status: int, method: str, path: str, body: Any = None, **options: Any) -> dict[str, Any]:
        """What must be refused: with this code and status, and an error object like any other."""
        error = self.call(method, path, body, status, **options)
        assert error["code"] == code, error
        assert set(error) == {"code", "message", "hint", "details", "exit_code"}
        assert error["message"] and "\n" not in error["message"]
        return dict(error)

    def begin(self, path: str, body: Any = None) -> str:
        """Begin an operation; its id."""
        answer = self.send("POST", path, {} if body is None else body)
        assert answer.status_code == 202, answer.text
        identifier = answer.json()["operation"]["id"]
        assert answer.headers["Location"] == f"/v1/operations/{identifier}"
        assert answer.headers["Appcat-Operation"] == identifier
        return str(identifier)

    def over(self, identifier: str) -> dict[str, Any]:
        """The operation once it is over."""
        deadline = time.monotonic() + PATIENCE
        while True:
            found = self.call("GET", f"/v1/operations/{identifier}?wait=20")
            if found["state"] != "running":
                return dict(found)
            assert time.monotonic() < deadline, found

    def do(self, path: str, body: Any = None) -> Any:
        """An operation, done: its result."""
        found = self.over(self.begin(path, body))
        assert found["state"] == "succeeded", found
        return found["result"]

    def stream(self, path: str) -> ClientConnection:
        """A WebSocket; raises InvalidStatus when it is refused."""
        return unix_connect(str(self.socket), f"ws://appcat{path}", max_size=None, close_timeout=5).__enter__()

    def guest(self, name: str, script: str) -> str:
        """What a shell in the guest prints; the test fails when it does."""
        done = self.call("POST", f"/v1/vms/{name}/exec", {"command": ["sh", "-c", script]})
        assert done["status"] == 0, done
        return str(done["stdout"])

    def threads(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/task").iterdir()))

    def descriptors(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))


def context_of(cat: Cat) -> Context:
    """Services over a home, as its daemon has them."""
    return App(Context(Settings.load(cat.env))).context


@contextlib.contextmanager
def daemon_of(cat: Cat) -> Iterator[Api]:
    """A daemon while the block runs; it ends by SIGTERM, and without a traceback in its log."""
    layout = context_of(cat).layout
    process = subprocess.Popen(
        [sys.executable, "-m", "appcat.daemon"],
        env=cat.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        transport = httpx.HTTPTransport(uds=str(layout.daemon_socket))
        with httpx.Client(transport=transport, base_url="http://appcat", timeout=PATIENCE) as http:
            api = Api(cat, layout.daemon_socket, http, process)
            wait_until(lambda: _answers(api), what="the daemon")
            yield api
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    log = layout.daemon_log.read_text(errors="replace")
    assert "Traceback" not in log, log[-5000:]


@contextlib.contextmanager
def daemon_with_web(cat: Cat) -> Iterator[Api]:
    """The same, with one running vm, ``web``."""
    with daemon_of(cat) as api:
        disks = [{"name": "data", "size": 64 << 20}]
        api.do("/v1/run", {"name": "web", "disks": disks, "labels": {"role": "test"}})
        yield api


def _answers(api: Api) -> bool:
    assert api.process.poll() is None, "the daemon ended"
    try:
        return api.send("GET", "/v1/health").status_code == 200
    except httpx.TransportError:
        return False


@dataclass
class Listener:
    """A reader of the event stream, in a thread."""

    api: Api
    after: int | None = None
    events: list[dict[str, Any]] = field(default_factory=list)

    def __enter__(self) -> Listener:
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._response.close()

    def kinds(self, vm: str = "") -> list[str]:
        return [event["kind"] for event in list(self.events) if not vm or event["vm"] == vm]

    def until(self, kind: str, vm: str) -> dict[str, Any]:
        """The first event of a kind about a vm."""

        def found() -> list[dict[str, Any]]:
            return [event for event in list(self.events) if event["kind"] == kind and event["vm"] == vm]

        wait_until(found, what=f"{kind} of {vm} among {self.kinds()}")
        return found()[0]

    def _read(self) -> None:
        headers = {} if self.after is None else {"Last-Event-ID": str(self.after)}
        transport = httpx.HTTPTransport(uds=str(self.api.socket))
        with (
            httpx.Client(transport=transport, base_url="http://appcat", timeout=None) as http,
            http.stream("GET", "/v1/events", headers=headers) as self._response,
            contextlib.suppress(httpx.HTTPError, httpx.StreamError, OSError),
        ):
            assert self._response.status_code == 200
            for line in self._response.iter_lines():
                self._ready.set()
                if line.startswith("data: "):
                    self.events.append(json.loads(line.removeprefix("data: ")))


class Shell:
    """A command on a WebSocket, and what it has said so far."""

    def __init__(self, api: Api, name: str, command: list[str], **options: Any) -> None:
        self.socket: ClientConnection = api.stream(f"/v1/vms/{name}/exec")
        self.socket.send(json.dumps({"command": command, **options}))
        self.out, self.err, self.told = b"", b"", []  # type: ignore[var-annotated]
        self.read_one()
        assert self.told == [{"type": "started"}], self.told

    def read_one(self, timeout: float = 60.0) -> None:
        frame = self.socket.recv(timeout)
        if isinstance(frame, str):
            self.told.append(json.loads(frame))
        elif frame[:1] == b"\x01":
            self.out += frame[1:]
        else:
            assert frame[:1] == b"\x02"
            self.err += frame[1:]

    def until(self, words: bytes) -> None:
        while words not in self.out:
            self.read_one()

    def end(self) -> dict[str, Any]:
        """The last message; the socket is closed in order."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                self.read_one()
        assert self.socket.close_code == 1000
        return dict(self.told[-1])
