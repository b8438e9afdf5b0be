"""A command in a guest behind a daemon, joined to streams of this process: ``guest.remote`` through a WebSocket."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from appcat.client.errors import error_from
from appcat.client.http import Http, path
from appcat.client.line import GOODBYE_PATIENCE, Line, parsed
from appcat.client.websocket import Message, WebSocket, open_websocket
from appcat.errors import DeadlineExceeded, from_os_error
from appcat.guest.patience import Signals, has_ended, held
from appcat.guest.remote import SIGNAL_PATIENCE, Streams, Terminal, deadline_in, write_all

STDOUT, STDERR = 1, 2
# The daemon ends a command in time; this is for one that says nothing any more.
GRACE = 30.0


def execute(
    http: Http,
    name: str,
    command: Sequence[str],
    streams: Streams,
    *,
    timeout: float | None = None,
    terminal: Terminal | None = None,
) -> int:
    """Run ``command`` in the guest of ``name``; its exit status. Raises as ``services.execute``, and Unavailable."""
    websocket, early = open_websocket(http, path("vms", name, "exec"))
    with held() as signals:
        running = _Running(websocket, streams)
        for message in early:
            running.take(message)
        size = terminal.size() if terminal else None
        kind = terminal.kind if terminal else ""
        running.line.say(_request(command, streams, timeout, kind, size))
        running.line.start()
        try:
            ended = _noticing(running, terminal, size) if terminal and size else running.ended
            return _wait(http, signals, running, ended, timeout)
        except KeyboardInterrupt:
            running.line.say({"type": "interrupt"})
            signals.wait(running.ended, deadline_in(SIGNAL_PATIENCE))
            raise
        finally:
            running.line.stop()
            has_ended(running.line, GOODBYE_PATIENCE)


def _request(
    command: Sequence[str], streams: Streams, timeout: float | None, kind: str, size: tuple[int, int] | None
) -> Mapping[str, Any]:
    return {
        "command": list(command),
        "timeout": timeout,
        "stdin": streams.stdin is not None,
        "terminal": {"kind": kind, "columns": size[0], "rows": size[1]} if size else None,
    }


class _Running:
    """What is known of the command, and where its output goes."""

    def __init__(self, websocket: WebSocket, streams: Streams) -> None:
        self.line = Line(websocket, streams.stdin, self.take)
        self.outlets = {
            number: self.line.outlet(partial(write_all, target))
            for number, target in ((STDOUT, streams.stdout), (STDERR, streams.stderr))
        }
        self.last_word: Mapping[str, Any] | None = None

    def take(self, message: Message) -> None:
        """A message of the daemon's."""
        if isinstance(message, str):
            told = parsed(message)
            if told.get("type") in ("exit", "error"):
                self.last_word = told
                self.line.stop()
        elif message and message[0] in self.outlets:
            self.outlets[message[0]].put(message[1:])

    def ended(self, within: float) -> bool:
        """Whether all is over within so many seconds, the output written."""
        return all(has_ended(thread, within) for thread in (self.line, *self.outlets.values()))


def _wait(
    http: Http, signals: Signals, running: _Running, ended: Callable[[float], bool], timeout: float | None
) -> int:
    until = math.inf if timeout is None else deadline_in(timeout + GRACE)
    if not signals.wait(ended, until):
        raise DeadlineExceeded(f"the daemon at {http.dialer.url} is silent", hint="see 'appcat vm list'")
    for outlet in running.outlets.values():
        if isinstance(outlet.error, BrokenPipeError):
            raise outlet.error
        if outlet.error is not None:
            raise from_os_error(outlet.error, "writing the command's output") from outlet.error
    if running.last_word is None:
        raise http.lost(running.line.error or ConnectionResetError("the command's end is not known"))
    if running.last_word["type"] == "error":
        raise error_from(running.last_word.get("error"))
    return int(running.last_word["status"])


def _noticing(running: _Running, terminal: Terminal, known: tuple[int, int]) -> Callable[[float], bool]:
    """``running.ended``, telling the guest on the way when our terminal's size is not the ``known`` one any more."""

    def ended(within: float) -> bool:
        nonlocal known
        found = terminal.size()
        if found != known:
            running.line.say({"type": "resize", "columns": found[0], "rows": found[1]})
            known = found
        return running.ended(within)

    return ended
