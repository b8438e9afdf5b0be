"""The serial line of a vm as a WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
import threading

from fastapi import APIRouter, WebSocket

from appcat.daemon import bridge
from appcat.daemon.desk import AtDesk
from appcat.daemon.pipes import Inlet, Outlet, ended
from appcat.guest.patience import interruptible
from appcat.services.console import Ending, Ends, NobodyReads

router = APIRouter(prefix="/v1/vms/{name}", tags=["inside"])

ENDINGS = {Ending.VM_ENDED: "vm-ended", Ending.INPUT_ENDED: "input-ended", Ending.DETACHED: "input-ended"}


@router.websocket("/console")
async def console(socket: WebSocket, name: str, desk: AtDesk) -> None:
    """Be at the serial line of a vm; accepted once the line is held, which only one can at a time."""
    stdin, stdout = Inlet(), Outlet()
    held, interrupt = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def join() -> Ending:
        """In a thread of its own."""
        with interruptible(interrupt), stdin.file, stdout.file, desk.app.console(name) as line:
            loop.call_soon_threadsafe(held.set)
            return line.join(Ends(stdin.file, stdout.file))

    try:
        work = desk.streams.start(join)
    except Exception as error:
        stdin.file.close()
        stdout.file.close()
        await bridge.deny(socket, error)
        stdin.close()
        stdout.abandon()
        return
    holding = asyncio.ensure_future(held.wait())
    await asyncio.wait((work, holding), return_when=asyncio.FIRST_COMPLETED)
    await ended(holding)
    if not held.is_set():
        stdin.close()
        stdout.abandon()
        await bridge.deny(socket, work.exception() or NobodyReads())
        return
    try:
        await _pass(socket, stdin, stdout, work)
    finally:
        interrupt.set()
        stdin.close()  # which wakes it


async def _pass(socket: WebSocket, stdin: Inlet, stdout: Outlet, work: asyncio.Future[Ending]) -> None:
    """Between the client and the line, until one of them ends."""
    turn = asyncio.Lock()

    async def listen(feeder: bridge.Feeder) -> None:
        while True:
            frame = await bridge.receive(socket)
            await feeder.put(frame if isinstance(frame, bytes) else frame.encode())

    feeder = bridge.Feeder(stdin, lambda: bridge.is_gone(socket))
    tasks: list[asyncio.Future[None]] = []
    try:
        await socket.accept()
        output = asyncio.ensure_future(bridge.send_pieces(socket, stdout.pieces(), turn))
        listening = asyncio.ensure_future(listen(feeder))
        tasks = [output, listening]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if output.done():
            output.result()
            ending = await work
            await bridge.tell(socket, {"type": "end", "ending": ENDINGS[ending]})
        else:
            listening.result()  # it ends by raising
    except bridge.ClientGone:
        pass
    except Exception as error:
        await bridge.tell_error(socket, error)
    finally:
        for task in tasks:
            await ended(task)
        await feeder.drop()
        stdout.abandon()
        with contextlib.suppress(Exception):
            await bridge.close(socket)
