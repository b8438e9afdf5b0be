"""A TCP connection into a guest as a WebSocket."""

from __future__ import annotations

import asyncio
import socket as sockets
from dataclasses import dataclass, field

from fastapi import APIRouter, WebSocket
from starlette.websockets import WebSocketState

from appcat.daemon import bridge
from appcat.daemon.desk import AtDesk
from appcat.daemon.pipes import ended

CHUNK = 1 << 16

router = APIRouter(prefix="/v1/vms/{name}", tags=["inside"])


@router.websocket("/tunnel")
async def tunnel(socket: WebSocket, name: str, desk: AtDesk, port: str = "") -> None:
    """Be connected to a TCP port of the guest's own loopback address; an empty binary frame ends one direction."""
    try:
        with desk.streams.place():  # its two threads are the service's
            number = int(port) if port.isascii() and port.isdigit() and len(port) < 6 else 0  # which is no port either
            line = await desk.streams.start(lambda: desk.app.tunnel(name, number))
            with line:
                line.setblocking(False)
                await socket.accept()
                await _join(socket, Line(line))
    except bridge.ClientGone:
        return
    except Exception as error:
        if socket.application_state is WebSocketState.CONNECTING:
            await bridge.deny(socket, error)
            return
        await bridge.tell_error(socket, error)
    await bridge.close(socket)


@dataclass
class Line:
    """The connection; ``all_sent`` when the client has said that that was all."""

    socket: sockets.socket
    all_sent: asyncio.Event = field(default_factory=asyncio.Event)

    async def write(self, data: bytes) -> bool:
        """To the guest; False when its side is closed."""
        try:
            await asyncio.get_running_loop().sock_sendall(self.socket, data)
        except OSError:
            return False
        return True

    def close(self) -> None:
        """The client has no more to say."""
        self.all_sent.set()
        try:
            self.socket.shutdown(sockets.SHUT_WR)
        except OSError:  # the guest's side is closed
            return

    async def read(self) -> bytes:
        """From the guest; nothing at the end."""
        try:
            return await asyncio.get_running_loop().sock_recv(self.socket, CHUNK)
        except ConnectionError:
            return b""


async def _join(socket: WebSocket, line: Line) -> None:
    """Until both directions have ended; raises ClientGone."""

    async def send(data: bytes) -> None:
        async with bridge.leaving():
            await socket.send_bytes(data)

    async def outward() -> None:
        while data := await line.read():
            await send(data)
        await send(b"")
        await line.all_sent.wait()

    async def inward() -> None:
        while True:  # after the end of its data as well, to see when the client goes
            frame = await bridge.receive(socket)
            await feeder.put(frame if isinstance(frame, bytes) else frame.encode())

    feeder = bridge.Feeder(line, lambda: bridge.is_gone(socket))
    tasks = [asyncio.ensure_future(outward()), asyncio.ensure_future(inward())]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            await ended(task)
        await feeder.close()
