"""QEMU's monitor protocol (QMP): one JSON object a line.

Source: QEMU's ``docs/interop/qmp-spec.txt`` (greeting, capabilities negotiation, commands, errors, events) and the QEMU
QMP Reference Manual for the commands themselves.

::

    MonitorError
    |-- MonitorSilent     connected, but no greeting or no answer in time: another client is served, or QEMU hangs
    |-- MonitorGone       no connection, or closed: QEMU is not there (yet, any more)
    `-- CommandRefused    QEMU answered with an error; ``error_class`` is its class
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from appcat.channel import ChannelClosed, ChannelTimeout, LineChannel
from appcat.checks import Check, unchecked
from appcat.errors import QemuError

log = logging.getLogger(__name__)

DEFAULT_TIMEOUT = 10.0

Message = dict[str, Any]


class MonitorError(QemuError):
    """Talking to QEMU did not go well."""


class MonitorSilent(MonitorError):
    """No greeting or no answer in time."""

    code = "monitor-silent"


class MonitorGone(MonitorError):
    """Nobody at the socket."""

    code = "monitor-gone"


class CommandRefused(MonitorError):
    """QEMU's own error for a command."""

    code = "monitor-refused"

    def __init__(self, command: str, error_class: str, description: str) -> None:
        super().__init__(f"QEMU refused {command}: {description}")
        self.error_class = error_class
        self.description = description


class Monitor:
    """A client in command mode. A context manager; one at a time per socket, or the greeting never comes.

    ``timeout``, in seconds, bounds the connection with its greeting here, and each command unless told otherwise.
    """

    def __init__(self, path: Path, timeout: float = DEFAULT_TIMEOUT) -> None:
        self._timeout = timeout
        self._events: list[Message] = []
        self._count = 0
        deadline = time.monotonic() + timeout
        with self._translated():
            self._channel = LineChannel(path, timeout)
        try:
            with self._translated():
                self._greet(deadline)
        except BaseException:
            self._channel.close()
            raise

    def __enter__(self) -> Monitor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up; QEMU goes on."""
        self._channel.close()

    def fileno(self) -> int:
        """The socket's descriptor, for select."""
        return self._channel.fileno()

    def execute(self, command: str, timeout: float | None = None, **arguments: Any) -> Any:
        """Run ``command`` and return its result; ``arguments`` use ``_`` where QMP has ``-``.

        Raises CommandRefused, MonitorSilent, MonitorGone.
        """
        return self.ask(command, {key.replace("_", "-"): value for key, value in arguments.items()}, timeout)

    def ask(self, command: str, arguments: Message, timeout: float | None = None) -> Any:
        """As ``execute``, with ``arguments`` as they are: names of devices' properties may have a ``_``."""
        self._count += 1
        request: Message = {"execute": command, "id": self._count}
        if arguments:
            request["arguments"] = arguments
        deadline = time.monotonic() + (self._timeout if timeout is None else timeout)
        with self._translated():
            self._send(request, deadline)
            return self._answer(command, deadline)

    def give(self, name: str, descriptor: int) -> None:
        """Hand QEMU an open file under ``name`` (``getfd``), for ``fd:NAME``. Raises as ``execute``."""
        self._count += 1
        deadline = time.monotonic() + self._timeout
        with self._translated():
            self._send({"execute": "getfd", "id": self._count, "arguments": {"fdname": name}}, deadline, [descriptor])
            self._answer("getfd", deadline)

    def next_event(self, timeout: float, check: Check = unchecked) -> Message:
        """The next event, waiting at most ``timeout`` seconds; raises MonitorSilent when there is none.

        Raises what ``check`` raises meanwhile.
        """
        if self._events:
            return self._events.pop(0)
        deadline = time.monotonic() + timeout
        with self._translated():
            while True:
                message = self._read(deadline, check)
                if "event" in message:
                    return message

    def _greet(self, deadline: float) -> None:
        greeting = self._read(deadline)
        if "QMP" not in greeting:
            raise MonitorError("the socket does not speak QMP", hint="run 'appcat doctor'")
        self._send({"execute": "qmp_capabilities", "id": 0}, deadline)
        self._answer("qmp_capabilities", deadline)

    def _send(self, request: Message, deadline: float, descriptors: Sequence[int] = ()) -> None:
        line = json.dumps(request, separators=(",", ":"))
        log.debug("> %s", line)
        self._channel.send(line.encode() + b"\n", deadline, descriptors)

    def _answer(self, command: str, deadline: float) -> Any:
        while True:
            message = self._read(deadline)
            if "event" in message:
                self._events.append(message)
            elif message.get("id") == self._count:
                if "error" in message:
                    error = message["error"]
                    raise CommandRefused(command, str(error.get("class")), str(error.get("desc")))
                return message.get("return")

    def _read(self, deadline: float, check: Check = unchecked) -> Message:
        line = self._channel.read_line(deadline, check)
        log.debug("< %s", line.decode(errors="replace"))
        try:
            message = json.loads(line)
        except ValueError as error:
            raise MonitorError(f"QEMU sent what is not JSON: {line[:60]!r}") from error
        if not isinstance(message, dict):
            raise MonitorError(f"QEMU sent what is not an object: {line[:60]!r}")
        return message

    @contextlib.contextmanager
    def _translated(self) -> Any:
        try:
            yield
        except ChannelTimeout as error:
            raise MonitorSilent("QEMU's monitor does not answer", hint="'appcat vm kill' ends a hung vm") from error
        except ChannelClosed as error:
            raise MonitorGone(f"QEMU's monitor is gone: {error}", hint="see 'appcat vm show'") from error
