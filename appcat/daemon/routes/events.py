"""What happens: as a stream of server-sent events, or as a list."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Header, Query
from starlette.responses import Response

from appcat.daemon import streams
from appcat.daemon.answers import EventList, answer, errors
from appcat.daemon.desk import AtDesk, Desk
from appcat.daemon.hub import as_info, replay
from appcat.errors import InvalidInput
from appcat.model.codec import encode
from appcat.services.events import EventFilter, is_wanted, list_events, parse_event_filters
from appcat.store.events import Lost

LARGEST_ID = 1 << 60

router = APIRouter(prefix="/v1/events", tags=["events"])


@router.get(
    "",
    operation_id="list_events",
    response_model=EventList,
    responses={
        **errors(409),
        200: {
            "description": "A list for `Accept: application/json`, else a stream.",
            "content": {streams.MEDIA_TYPE: {}},
        },
    },
)
async def events(
    desk: AtDesk,
    after: Annotated[
        int | None, Query(ge=0, le=LARGEST_ID, description="The id of the last event known; 0: all.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="Of a list, how many at most.")] = 1000,
    filters: Annotated[
        list[Annotated[str, Query(max_length=500)]],
        Query(alias="filter", max_length=32, description="kind=PATTERN, vm=PATTERN."),
    ] = [],  # noqa: B006
    last_event_id: Annotated[str | None, Header(max_length=20, description="As `after`.")] = None,
    accept: Annotated[str, Header(max_length=1000)] = "",
) -> Response:
    """Follow what happens in the home, whoever does it: from now on, or from after an event on.

    With `Accept: application/json`, list what happened after an event. Each event's id is in `id:`, so that an
    `EventSource` that comes again misses nothing; `event: lost` says that some are not kept any more.
    """
    wanted = parse_event_filters(filters)
    known = _id(last_event_id) if after is None else after
    if "application/json" in accept and streams.MEDIA_TYPE not in accept:
        found = await asyncio.to_thread(list_events, desk.ctx, known or 0, limit)
        return answer({"events": [encode(event) for event in found if is_wanted(event, wanted)]})
    await desk.hub.ready()
    return streams.respond(_stream(desk, known, wanted))


def _id(text: str | None) -> int | None:
    if text is None or not text.strip():
        return None
    if text.isascii() and text.isdigit() and int(text) <= LARGEST_ID:
        return int(text)
    raise InvalidInput("Last-Event-ID is not an event's id", hint="send the id of the last event that you know")


async def _stream(desk: Desk, after: int | None, wanted: list[EventFilter]) -> AsyncIterator[streams.Event]:
    with desk.hub.subscribe() as mine:
        async for event in replay(desk.ctx, mine, after):
            if isinstance(event, Lost):
                yield streams.Event("lost", {"after": event.after, "first": event.first, "message": event.message})
            elif is_wanted(event, wanted):
                yield streams.Event(event.kind, as_info(event), str(event.id))
        if mine.behind:
            yield streams.LOST
