"""Long actions: what they are at, what came of them, and calling them off."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from appcat.daemon.answers import OperationList, answer, errors
from appcat.daemon.desk import AtDesk, Desk
from appcat.daemon.inputs import Nothing
from appcat.model.codec import encode
from appcat.model.event import Event, EventKind
from appcat.model.operation import Operation, OperationState
from appcat.model.shapes import OperationInfo
from appcat.services import operations

LONGEST_WAIT = 60.0
# A process that is killed ends its operations without an event; progress has no events at all.
LOOK_EVERY, PROGRESS_EVERY = 2.0, 0.25

router = APIRouter(prefix="/v1/operations", tags=["operations"])

Id = Annotated[str, Path(description="An operation's id.", max_length=100, examples=["20261125T223000-1a2b3c"])]


@router.get("", operation_id="list_operations", response_model=OperationList, responses=errors())
def list_operations(
    desk: AtDesk,
    state: Annotated[
        Literal["running", "succeeded", "failed", "cancelled", "lost"] | None, Query(description="Only in this state.")
    ] = None,
) -> Response:
    """List operations, the oldest first, whoever began them; the newest few hundred are kept for a week."""
    found = operations.list_operations(desk.ctx, None if state is None else OperationState(state))
    return answer({"operations": [encode(one) for one in found]})


@router.get("/{id}", operation_id="show_operation", response_model=OperationInfo, responses=errors(404, 409))
async def show_operation(
    id: Id,  # noqa: A002
    desk: AtDesk,
    wait: Annotated[
        float,
        Query(ge=0, le=LONGEST_WAIT, allow_inf_nan=False, description="Answer when it is over, or after seconds."),
    ] = 0.0,
    progress: Annotated[bool, Query(description="With wait: answer as soon as its progress has changed, too.")] = False,
) -> Response:
    """Show an operation; with `wait`, once it is over."""
    found = await _show(desk, id)
    if wait and not found.is_over:
        found = await _wait(desk, found, time.monotonic() + wait, progress)
    return answer(encode(found))


@router.post("/{id}/cancel", operation_id="cancel", response_model=OperationInfo, responses=errors(404, 409))
def cancel(id: Id, desk: AtDesk, _: Nothing | None = None) -> Response:  # noqa: A002
    """Ask an operation to stop, which it does where that does no harm."""
    return answer(encode(operations.cancel(desk.ctx, id)))


async def _show(desk: Desk, identifier: str) -> Operation:
    return await asyncio.to_thread(operations.show_operation, desk.ctx, identifier)


async def _wait(desk: Desk, known: Operation, deadline: float, progress: bool) -> Operation:
    """The operation once it is over, or has moved on where ``progress`` is wanted, or at the deadline."""

    def is_its_end(event: Event) -> bool:
        return event.kind == EventKind.OPERATION_ENDED and event.detail.get("id") == known.id

    with desk.hub.subscribe(is_its_end) as mine:
        while True:
            found = await _show(desk, known.id)
            moved = (found.step, found.done, found.total) != (known.step, known.done, known.total)
            left = deadline - time.monotonic()
            if found.is_over or (progress and moved) or left <= 0 or desk.closing:
                return found
            await mine.next(min(left, PROGRESS_EVERY if progress else LOOK_EVERY))
