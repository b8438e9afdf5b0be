"""Files into a guest and out of it, as streams: one file as it is, a directory as a tar archive."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Annotated, BinaryIO

from fastapi import APIRouter, Header, Query, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response, StreamingResponse

from appcat.daemon.answers import GUEST_ERRORS, answer
from appcat.daemon.bodies import BODIES, BYTES, TAR
from appcat.daemon.desk import AtDesk, Desk
from appcat.daemon.inputs import GuestPath, Name
from appcat.daemon.pipes import Inlet, Outlet, ended
from appcat.daemon.workers import Interrupted
from appcat.errors import InvalidInput
from appcat.guest.patience import interruptible
from appcat.model.shapes import CopyInfo
from appcat.services.describe import describe_copy
from appcat.services.transfer import get, put_file, put_tree

LARGEST = 1 << 40  # bytes of one transfer

router = APIRouter(prefix="/v1/vms/{name}", tags=["inside"])

BODIES.declare("PUT", "/v1/vms/{name}/files", BYTES, TAR, limit=LARGEST)

_ANY_BYTES = {"schema": {"type": "string", "format": "binary"}}
Mode = Annotated[
    str | None,
    Query(pattern=r"^0?[0-7]{3}$", description="A new file's permissions, octal; else those it had, or 644."),
]


@router.put(
    "/files",
    operation_id="put_files",
    response_model=CopyInfo,
    responses=GUEST_ERRORS,
    openapi_extra={"requestBody": {"required": True, "content": {BYTES: _ANY_BYTES, TAR: _ANY_BYTES}}},
)
async def put_files(name: Name, path: GuestPath, request: Request, desk: AtDesk, mode: Mode = None) -> Response:
    """Write a file in the guest, or unpack a tar archive there.

    As `application/octet-stream` the body becomes the file at `path`: whole, or not at all. As `application/x-tar` it
    is unpacked into the directory at `path`.
    """
    is_tar = request.headers.get("content-type", "").partition(";")[0].strip().lower() == TAR
    if is_tar and mode is not None:
        raise InvalidInput("an archive has its own permissions", hint="leave mode out")
    return answer(await Upload(desk, request, name, path, is_tar, None if mode is None else int(mode, 8)).run())


class Upload:
    """A body on its way into a guest."""

    def __init__(self, desk: Desk, request: Request, name: str, path: str, is_tar: bool, mode: int | None) -> None:
        self.desk, self.request = desk, request
        self.name, self.path, self.is_tar, self.mode = name, path, is_tar, mode
        self.size: int | None = None  # of the whole body, once it has come
        self.received = 0
        self.interrupt = threading.Event()

    async def run(self) -> CopyInfo:
        """Until it is there, or nothing has changed; raises what the service does."""
        inlet = Inlet()
        try:
            work = self.desk.streams.start(lambda: self._work(inlet.file))
        except BaseException:
            inlet.file.close()
            inlet.close()
            raise
        passing = asyncio.ensure_future(self._pass(inlet))
        try:
            await asyncio.wait((work, passing), return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                passing.result()  # raises when the client is gone
            return await work
        except Interrupted as error:
            raise ClientDisconnect from error
        finally:
            if not work.done():
                self.interrupt.set()
            await ended(passing)
            inlet.close()

    async def _pass(self, inlet: Inlet) -> None:
        async for piece in self.request.stream():
            self.received += len(piece)
            if not await inlet.write(piece):
                return
        self.size = self.received
        inlet.close()

    def _work(self, source: BinaryIO) -> CopyInfo:
        """In a thread of its own."""
        with source, interruptible(self.interrupt):
            if self.is_tar:
                return describe_copy(put_tree(self.desk.ctx, self.name, self.path, source))
            return describe_copy(put_file(self.desk.ctx, self.name, self.path, source, lambda: self.size, self.mode))


@router.get(
    "/files",
    operation_id="get_files",
    response_class=Response,
    responses={**GUEST_ERRORS, 200: {"description": "The file, or an archive.", "content": {BYTES: {}, TAR: {}}}},
)
async def get_files(
    name: Name, path: GuestPath, desk: AtDesk, accept: Annotated[str, Header(max_length=1000)] = ""
) -> Response:
    """Read a file of the guest as it is, or a directory as a tar archive of what is in it.

    With `Accept: application/x-tar`, a file comes as an archive as well, with its name and its permissions. A download
    that fails on its way is cut off, so that it cannot be taken for a whole one.
    """
    return await Download(desk, name, path, TAR in accept).begin()


class Download:
    """Something of a guest on its way out."""

    def __init__(self, desk: Desk, name: str, path: str, as_tar: bool) -> None:
        self.desk, self.name, self.path, self.as_tar = desk, name, path, as_tar
        self.interrupt = threading.Event()
        self.outlet = Outlet()
        self.begun = asyncio.Event()
        self.is_tar = False
        self.size: int | None = None

    async def begin(self) -> Response:
        """The answer, once there is something to send; raises what the service does before."""
        loop = asyncio.get_running_loop()
        try:
            work = self.desk.streams.start(lambda: self._work(loop))
        except BaseException:
            self.outlet.file.close()
            self.outlet.abandon()
            raise
        waiting = asyncio.ensure_future(self.begun.wait())
        try:
            await asyncio.wait((work, waiting), return_when=asyncio.FIRST_COMPLETED)
            if not self.begun.is_set():
                self.outlet.abandon()
                await work
        except BaseException:
            self.interrupt.set()
            self.outlet.abandon()
            raise
        finally:
            await ended(waiting)
        headers = {} if self.size is None else {"Content-Length": str(self.size)}
        return StreamingResponse(self._pieces(work), headers=headers, media_type=TAR if self.is_tar else BYTES)

    async def _pieces(self, work: asyncio.Future[None]) -> AsyncIterator[bytes]:
        try:
            async for piece in self.outlet.pieces():
                yield piece
            await work  # what it raises cuts the answer off
        finally:
            self.interrupt.set()
            self.outlet.abandon()

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        """In a thread of its own."""

        def begun(is_tar: bool, size: int | None) -> None:
            self.is_tar, self.size = is_tar, size
            loop.call_soon_threadsafe(self.begun.set)

        with self.outlet.file, interruptible(self.interrupt):
            get(self.desk.ctx, self.name, self.path, self.outlet.file, begun, tar=self.as_tar)
