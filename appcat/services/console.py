"""``console``: the serial line of a running vm, joined to this process's streams."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import BinaryIO

from appcat.errors import InvalidInput, QemuError
from appcat.guest.patience import check_interrupted
from appcat.guest.remote import write_all
from appcat.model.status import Status
from appcat.ready import ready
from appcat.services.context import Context
from appcat.services.observe import END_PATIENCE, ended_by, show
from appcat.services.states import not_running
from appcat.store import locks

CHUNK = 1 << 15
CONNECT_PATIENCE = 5.0
# After the end of piped input: until the guest was silent for so long, and no longer than that.
SILENCE, LONGEST_REST = 2.0, 10.0
_KEY = re.compile(r"ctrl-([a-z@\[\]\\^_])", re.ASCII | re.IGNORECASE)


class Ending(Enum):
    """How a console session came to its end."""

    DETACHED = "detached"
    VM_ENDED = "the vm ended"
    INPUT_ENDED = "the input ended"


class NobodyReads(Exception):
    """Standard output was closed by its reader: not an end of the vm's line."""


@dataclass(frozen=True)
class Ends:
    """What the serial line is joined to. ``detach`` is the key that ends it, None where every byte is the guest's."""

    stdin: BinaryIO | None
    stdout: BinaryIO
    detach: bytes | None = None


def parse_detach_key(text: str) -> bytes:
    """The byte that a key such as ``ctrl-]`` sends; raises InvalidInput."""
    match = _KEY.fullmatch(text)
    if match is None:
        raise InvalidInput(
            f"{text!r} is not a key to detach with", hint="use ctrl- and one of a-z @ [ ] \\ ^ _, such as ctrl-]"
        )
    return bytes([ord(match[1].upper()) & 0x1F])


@dataclass(frozen=True)
class Console:
    """The serial line of a vm, held by us alone."""

    ctx: Context
    name: str
    line: socket.socket

    def join(self, ends: Ends) -> Ending:
        """Join it to ``ends`` until the key is pressed, the input ends, or QEMU does; raises QemuError, NobodyReads.

        After the end of piped input, what the guest answers is still read until it is silent for ``SILENCE`` seconds.
        """
        ending = Session(self.line, ends).run()
        if ending is Ending.VM_ENDED and not ended_by(self.ctx, self.name, time.monotonic() + END_PATIENCE):
            raise QemuError(
                f"QEMU closed the console of {self.name} and runs on", hint=f"see 'appcat vm show {self.name}'"
            )
        return ending


@contextlib.contextmanager
def console(ctx: Context, name: str) -> Iterator[Console]:
    """The serial line of ``name``, held while the block runs: QEMU serves one client at a time.

    Raises NotFound, WrongState when the vm does not run, Busy naming whoever has the console already, QemuError.
    """
    seen = show(ctx, name)
    if seen.vm is None or seen.status in (Status.STOPPED, Status.BROKEN):
        raise not_running(name, seen.status)
    with (
        locks.hold(ctx.layout.vm(name).console_lock, "console", wait=0),
        _connect(ctx, name, seen.vm.uuid) as line,
    ):
        yield Console(ctx, name, line)


def _connect(ctx: Context, name: str, uuid: str) -> socket.socket:
    line = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        line.settimeout(CONNECT_PATIENCE)
        line.connect(str(ctx.layout.runtime(uuid).console))
        line.setblocking(False)
    except OSError as error:
        line.close()
        raise QemuError(
            f"the console of {name} cannot be reached: {error.strerror or error}", hint=f"see 'appcat vm show {name}'"
        ) from error
    return line


class Session:
    """The loop between a serial line and this side; neither ever waits for the other."""

    def __init__(self, line: socket.socket, ends: Ends) -> None:
        self._line, self._ends = line, ends
        self._input = ends.stdin
        self._typed = bytearray()
        self._input_ended = float("inf") if ends.stdin else time.monotonic()
        self._heard = time.monotonic()

    def run(self) -> Ending:
        """Until one of the endings; raises KeyboardInterrupt when this thread was interrupted, once its input ends."""
        while True:
            check_interrupted()
            if self._has_rested():
                return Ending.INPUT_ENDED
            reading: list[socket.socket | BinaryIO] = [self._line]
            if self._input and self._is_listening():
                reading.append(self._input)
            readable, writable = ready(reading, [self._line] if self._typed else [], self._patience())
            if self._input in readable and not self._take_input():
                return Ending.DETACHED
            try:
                if self._line in readable and not self._pass_output():
                    return Ending.VM_ENDED
                if writable:
                    del self._typed[: self._line.send(self._typed)]
            except BlockingIOError:
                continue
            except ConnectionError:
                return Ending.VM_ENDED

    def _take_input(self) -> bool:
        """Read what was typed; False when the key to detach was among it."""
        assert self._input is not None
        data = os.read(self._input.fileno(), CHUNK)
        if not data:
            self._input, self._input_ended = None, time.monotonic()
            return True
        before, key, _ = data.partition(self._ends.detach) if self._ends.detach else (data, b"", b"")
        self._typed += before
        if key:
            with contextlib.suppress(OSError):  # what was typed before it is still the guest's
                self._line.send(self._typed)
        return not key

    def _pass_output(self) -> bool:
        data = self._line.recv(CHUNK)
        self._heard = time.monotonic()
        if data:
            _write(self._ends.stdout, data)
        return bool(data)

    def _has_rested(self) -> bool:
        if self._input is not None or self._typed:
            return False
        quiet_since = max(self._input_ended, self._heard)
        now = time.monotonic()
        return now - quiet_since >= SILENCE or now - self._input_ended >= LONGEST_REST

    def _patience(self) -> float | None:
        return None if self._is_listening() else 0.1

    def _is_listening(self) -> bool:
        """Whether what comes next on the input would be taken."""
        return self._input is not None and len(self._typed) < CHUNK


def _write(target: BinaryIO, data: bytes) -> None:
    try:
        write_all(target, data)
    except BrokenPipeError as error:
        raise NobodyReads from error
