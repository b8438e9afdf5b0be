"""A guest program that takes down what it is told (``templates/guest/appcat-guest.c`` says how it talks)."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

from tests.unit.support.processes import PATIENCE


class FakeGuest:
    """Listens at ``path`` until its ``with`` block ends; ``told`` has the statements of each document, in order.

    ``answer`` is what it replies before the document's id: ``ok``, ``error``, or nothing for one that hangs.
    """

    def __init__(self, path: Path, answer: str = "ok") -> None:
        self.told: list[list[str]] = []
        self.answer = answer
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(8)
        self._ended = threading.Event()
        self._listener.settimeout(0.05)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> FakeGuest:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(PATIENCE)
        self._listener.close()

    def _serve(self) -> None:
        while not self._ended.is_set():
            try:
                connection, _ = self._listener.accept()
            except TimeoutError:
                continue
            connection.settimeout(PATIENCE)
            with connection, connection.makefile("r") as lines:
                self._converse(connection, lines)

    def _converse(self, connection: socket.socket, lines: object) -> None:
        document: list[str] = []
        for line in lines:  # type: ignore[attr-defined]
            document.append(line.rstrip("\n"))
            if document[-1] == "end":
                header, *statements, _ = document[1:]  # an empty line comes first
                self.told.append(statements)
                identifier = header.split(" ")[2]
                if self.answer == "ok":
                    connection.sendall(f"ok {identifier}\n".encode())
                elif self.answer:
                    connection.sendall(f"{self.answer} {identifier} 2 refused\n".encode())
                document = []
