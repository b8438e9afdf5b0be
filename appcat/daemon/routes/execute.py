"""Commands in a guest: with streams over a WebSocket, or for curl in one request."""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO, cast

from fastapi import APIRouter, Request, WebSocket
from pydantic import ValidationError
from starlette.responses import Response

from appcat.daemon import bridge, problems
from appcat.daemon.answers import GUEST_ERRORS, Executed, answer
from appcat.daemon.desk import AtDesk, Desk
from appcat.daemon.inputs import ExecBody, ExecControl, ExecStart, Name
from appcat.daemon.pipes import Inlet, Outlet, ended
from appcat.daemon.workers import Interrupted
from appcat.errors import InvalidInput
from appcat.guest.patience import interruptible
from appcat.guest.remote import Streams, Terminal
from appcat.services.execute import target_of

MOST_TOLD = 1 << 20
START_PATIENCE = 30.0
INTERRUPTED = 130
STDOUT, STDERR = b"\x01", b"\x02"

router = APIRouter(prefix="/v1/vms/{name}", tags=["inside"])


class Kept:
    """A file to write to that keeps the first ``MOST_TOLD`` bytes."""

    def __init__(self) -> None:
        self._data = bytearray()
        self.truncated = False

    def write(self, data: bytes) -> int:
        """Take all, keep what there is room for."""
        room = MOST_TOLD - len(self._data)
        self._data += data[:room]
        self.truncated |= len(data) > room
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def text(self) -> str:
        """What was kept, as text."""
        return bytes(self._data).decode(errors="replace")


@router.post("/exec", operation_id="execute", response_model=Executed, responses=GUEST_ERRORS)
async def execute(name: Name, body: ExecBody, request: Request, desk: AtDesk) -> Response:
    """Run a command in the guest and wait for its end.

    Its exit status is in the answer, and the first MiB of each of its outputs, as text. It is ended when the client
    goes away. For streams, for binary data and for a terminal there is a WebSocket at the same path (docs/api.md).
    """
    interrupt = threading.Event()
    work = desk.streams.start(lambda: _execute(desk, name, body, interrupt))
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
    finally:
        await ended(gone)
        if not work.done():
            interrupt.set()
    return answer(await work) if work.done() else Response(status_code=499)


def _execute(desk: Desk, name: str, body: ExecBody, interrupt: threading.Event) -> Executed:
    out, err = Kept(), Kept()
    with tempfile.TemporaryFile() as stdin, interruptible(interrupt):
        stdin.write(body.stdin.encode(errors="surrogateescape"))
        stdin.seek(0)
        streams = Streams(stdin, cast(BinaryIO, out), cast(BinaryIO, err))
        status = desk.app.execute(name, body.command, streams, timeout=body.timeout)
    truncated = out.truncated or err.truncated
    return {"status": status, "stdout": out.text(), "stderr": err.text(), "truncated": truncated}


async def _gone(request: Request) -> None:
    """Return when the client is gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


@router.websocket("/exec")
async def execute_stream(socket: WebSocket, name: str, desk: AtDesk) -> None:
    """Run a command joined to the frames of a WebSocket."""
    try:
        await desk.streams.start(lambda: target_of(desk.ctx, name))
    except Exception as error:
        await bridge.deny(socket, error)
        return
    await socket.accept()
    try:
        start = await _start(socket)
        session = Session(socket, start)
        await session.run(desk, name)
    except bridge.ClientGone:
        return
    except Exception as error:
        await bridge.tell_error(socket, error)
    await bridge.close(socket)


async def _start(socket: WebSocket) -> ExecStart:
    """The first frame; raises InvalidInput, ClientGone."""
    try:
        text = await asyncio.wait_for(bridge.receive(socket), START_PATIENCE)
    except TimeoutError:
        raise InvalidInput("no command came", hint="send one as the first message", code="too-slow") from None
    if not isinstance(text, str):
        raise InvalidInput("the first message is not text", hint='send {"command": [...]}')
    try:
        return ExecStart.model_validate_json(text)
    except ValidationError as error:
        raise problems.validation_error(
            [{**fault, "loc": ("body", *fault["loc"])} for fault in error.errors()]
        ) from None


@dataclass
class Size:
    """The present size of the client's terminal."""

    columns: int
    rows: int


class Session:
    """One command and its client."""

    def __init__(self, socket: WebSocket, start: ExecStart) -> None:
        self.socket, self.start = socket, start
        self.interrupt = threading.Event()
        self.turn = asyncio.Lock()
        self.size = Size(start.terminal.columns, start.terminal.rows) if start.terminal else Size(80, 24)

    async def run(self, desk: Desk, name: str) -> None:
        """From the command's start to its end, or to the client's; raises ClientGone, and what the command does."""
        stdin = Inlet()
        outlets = {STDOUT: Outlet(), STDERR: Outlet()}
        files = (stdin.file, outlets[STDOUT].file, outlets[STDERR].file)
        try:
            work = desk.streams.start(lambda: self._work(desk, name, *files))
        except BaseException:
            for file in files:
                file.close()
            for end in (stdin.close, *(outlet.abandon for outlet in outlets.values())):
                end()
            raise
        feeder = bridge.Feeder(stdin, lambda: bridge.is_gone(self.socket))
        if not self.start.stdin:
            await feeder.put(b"")
        pumps = [
            asyncio.ensure_future(bridge.send_pieces(self.socket, outlet.pieces(), self.turn, mark))
            for mark, outlet in outlets.items()
        ]
        listening = asyncio.ensure_future(self._listen(feeder))
        try:
            await bridge.tell(self.socket, {"type": "started"})
            await self._until_over(work, pumps, listening)
        finally:
            self.interrupt.set()
            for task in (*pumps, listening):
                await ended(task)
            await feeder.close()
            for outlet in outlets.values():
                outlet.abandon()

    async def _until_over(
        self, work: asyncio.Future[int], pumps: Sequence[asyncio.Future[None]], listening: asyncio.Future[None]
    ) -> None:
        """Until all is told that the command has said; raises ClientGone as soon as the client is."""
        unfinished = set(pumps)
        while unfinished:
            done, unfinished = await asyncio.wait({*unfinished, listening}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # listening ends by raising
            unfinished.discard(listening)
        try:
            status = await work
        except Interrupted:
            status = INTERRUPTED
        await bridge.tell(self.socket, {"type": "exit", "status": status})

    def _work(self, desk: Desk, name: str, stdin: BinaryIO, out: BinaryIO, err: BinaryIO) -> int:
        """In a thread of its own."""
        with stdin, out, err, interruptible(self.interrupt):
            streams = Streams(stdin, out, err)
            terminal = self.start.terminal
            shown = Terminal(terminal.kind, lambda: (self.size.columns, self.size.rows)) if terminal else None
            return desk.app.execute(name, self.start.command, streams, timeout=self.start.timeout, terminal=shown)

    async def _listen(self, feeder: bridge.Feeder) -> None:
        """Pass on what the client says, until it is gone."""
        while True:
            frame = await bridge.receive(self.socket)
            if isinstance(frame, bytes):
                await feeder.put(frame)
            else:
                self._control(frame)

    def _control(self, text: str) -> None:
        """A text frame; one that is not understood is an error of the client, and ends the command."""
        try:
            control = ExecControl.model_validate_json(text)
        except ValidationError as error:
            raise InvalidInput(
                "a message was not understood", hint="see docs/api.md", details=str(error)[:1000]
            ) from None
        if control.type == "resize":
            self.size = Size(control.columns, control.rows)
        else:
            self.interrupt.set()
