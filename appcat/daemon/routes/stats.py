"""What vms take of their host."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from appcat.daemon.answers import answer, errors
from appcat.daemon.desk import AtDesk
from appcat.daemon.inputs import LONGEST_NAME
from appcat.model.shapes import StatsInfo

router = APIRouter(prefix="/v1/stats", tags=["vms"])

Names = Annotated[
    list[Annotated[str, Query(max_length=LONGEST_NAME)]],
    Query(alias="name", max_length=256, description="These vms; all when none is named."),
]
Interval = Annotated[
    float, Query(ge=0, le=60, allow_inf_nan=False, description="Seconds over which processor use is measured.")
]


@router.get("", operation_id="stats", response_model=StatsInfo, responses=errors(404))
async def stats(desk: AtDesk, names: Names = [], interval: Interval = 0.5) -> Response:  # noqa: B006
    """Measure what each vm takes of processors, memory and disk."""
    found = await desk.streams.start(
        lambda: desk.app.stats(names or None, interval)
    )  # it sleeps: not a handler's thread
    return answer(found)
