"""The other end of a unix socket, following a script: what QEMU or a guest agent might say."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.unit.support.processes import PATIENCE

Message = dict[str, Any]


class Conversation:
    """One accepted connection, from the server's side."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lines = connection.makefile("rb")
        self.raw: list[bytes] = []

    def send_bytes(self, data: bytes) -> None:
        self._connection.sendall(data)

    def send(self, *messages: Any) -> None:
        for message in messages:
            self.send_bytes(json.dumps(message).encode() + b"\r\n")

    def receive(self) -> Message:
        """The next request; its bytes are added to ``raw``."""
        line = self._lines.readline()
        self.raw.append(line)
        return dict(json.loads(line.lstrip(b"\xff")))

    def answer(self, request: Message, result: Any) -> None:
        self.send({"return": result, "id": request["id"]})

    def greet(self) -> None:
        """QMP's opening: greeting, then capabilities negotiation."""
        self.send({"QMP": {"version": {}, "capabilities": ["oob"]}})
        request = self.receive()
        assert request["execute"] == "qmp_capabilities"
        self.answer(request, {})

    def wait_for_hang_up(self) -> None:
        """Say nothing until the client goes."""
        while self._lines.readline():
            pass


Script = Callable[[Conversation], None]


def qemu_says(status: str) -> Script:
    """A QEMU that is asked once for its status."""

    def script(peer: Conversation) -> None:
        peer.greet()
        request = peer.receive()
        assert request["execute"] == "query-status"
        peer.answer(request, {"status": status, "running": status == "running"})

    return script


class FakePeer:
    """Listens at ``path``; each connection in turn is served by the next script and closed when that ends.

    A context manager: leaving it waits for the scripts and raises what went wrong in one.
    """

    def __init__(self, path: Path, *scripts: Script) -> None:
        self.path = path
        self._scripts = scripts
        self._failure: BaseException | None = None
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(8)
        self._listener.settimeout(PATIENCE)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> FakePeer:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._thread.join(PATIENCE)
        self._listener.close()
        if kind is None and self._failure is not None:
            raise self._failure
        assert not self._thread.is_alive(), "the script did not come to its end"

    def _serve(self) -> None:
        try:
            for script in self._scripts:
                connection, _ = self._listener.accept()
                connection.settimeout(PATIENCE)
                with connection:
                    script(Conversation(connection))
        except BaseException as error:
            self._failure = error
