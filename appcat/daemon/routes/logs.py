"""What a vm has said, and goes on saying."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from starlette.responses import Response, StreamingResponse

from appcat.daemon.answers import errors
from appcat.daemon.desk import AtDesk, Desk
from appcat.daemon.inputs import Name
from appcat.services.logs import Following, Source, follow_log

POLL = 0.2
MEDIA_TYPE = "application/octet-stream"

router = APIRouter(prefix="/v1/vms/{name}", tags=["inside"])


@router.get(
    "/logs",
    operation_id="logs",
    response_class=Response,
    responses={**errors(404), 200: {"description": "The log as it is.", "content": {MEDIA_TYPE: {}}}},
)
async def logs(
    name: Name,
    desk: AtDesk,
    source: Annotated[Literal["console", "qemu", "keeper"], Query(description="Whose words.")] = "console",
    tail: Annotated[int | None, Query(ge=0, le=1_000_000, description="Only so many last lines.")] = None,
    follow: Annotated[bool, Query(description="Go on until the vm's QEMU is gone.")] = False,
) -> Response:
    """Read a log: the serial line, QEMU's own words, or the keeper's about this vm."""
    following = await asyncio.to_thread(follow_log, desk.ctx, name, Source(source))
    return StreamingResponse(_pieces(desk, following, tail, follow), media_type=MEDIA_TYPE)


async def _pieces(desk: Desk, following: Following, tail: int | None, follow: bool) -> AsyncIterator[bytes]:
    """The log. Whoever follows costs no thread: a look at a file that has not grown takes microseconds."""
    try:
        for piece in await asyncio.to_thread(lambda: list(following.begin(tail, over=not follow))):
            yield piece
        while follow and not desk.closing:
            going_on = following.goes_on()
            for piece in following.more():  # after the look, so that last words are not missed
                yield piece
            if not going_on:
                for piece in following.rest():
                    yield piece
                return
            await asyncio.sleep(POLL)
    finally:
        following.close()
