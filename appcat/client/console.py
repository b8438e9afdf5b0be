"""The serial line of a vm behind a daemon: ``services.console`` through a WebSocket."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from appcat.client.errors import error_from
from appcat.client.http import Http, path
from appcat.client.line import GOODBYE_PATIENCE, Line, bridge
from appcat.client.websocket import Message, WebSocket, open_websocket
from appcat.errors import Busy
from appcat.guest.patience import has_ended
from appcat.services.console import SILENCE, Ending, Ends, Session

# A daemon whose client has left rests as after piped input (``services.console.SILENCE``) before it lets go.
BUSY_PATIENCE, BUSY_POLL = SILENCE + 1.5, 0.1


@dataclass(frozen=True)
class RemoteConsole:
    """See ``engine.ConsoleLine``."""

    http: Http
    connection: socket.socket
    line: Line
    told: dict[str, Any]

    def join(self, ends: Ends) -> Ending:
        """As in process; raises what the daemon says went wrong, and Unavailable when it is gone."""
        ending = Session(self.connection, ends).run()
        if ending is not Ending.VM_ENDED:
            return ending
        has_ended(self.line, GOODBYE_PATIENCE)
        if self.told.get("type") == "end":
            return ending
        if self.told.get("type") == "error":
            raise error_from(self.told.get("error"))
        raise self.http.lost(self.line.error or ConnectionResetError("the console's end is not known"))


def _open(http: Http, name: str) -> tuple[WebSocket, list[Message]]:
    """A line that was left a moment ago is held until the daemon has noticed."""
    deadline = time.monotonic() + BUSY_PATIENCE
    while True:
        try:
            return open_websocket(http, path("vms", name, "console"))
        except Busy:
            if time.monotonic() >= deadline:
                raise
            time.sleep(BUSY_POLL)


@contextlib.contextmanager
def console(http: Http, name: str) -> Iterator[RemoteConsole]:
    """The serial line of ``name``, held while the block runs; raises as ``services.console``, and Unavailable."""
    websocket, early = _open(http, name)
    told: dict[str, Any] = {}
    connection, line = bridge(websocket, early, told.update)
    connection.setblocking(False)
    try:
        yield RemoteConsole(http, connection, line, told)
    finally:
        connection.close()
        line.stop()
        has_ended(line, GOODBYE_PATIENCE)  # so that the console is free for the next one
