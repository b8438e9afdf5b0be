"""Vms: looking at them, making, changing and removing them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query
from starlette.responses import Response

from appcat.app import App
from appcat.daemon.answers import (
    LONG_ERRORS,
    Accepted,
    Changed,
    LabelList,
    VmList,
    answer,
    errors,
)
from appcat.daemon.desk import AtDesk
from appcat.daemon.inputs import CreateBody, EditBody, IfMatch, LabelBody, Name, RenameBody, RunBody
from appcat.daemon.tags import if_match, is_known, quoted
from appcat.errors import Broken
from appcat.model.shapes import VmDetails, VmInfo
from appcat.services.create import check_request, with_defaults
from appcat.services.expecting import expecting
from appcat.services.filters import parse_filters
from appcat.services.operations import Running
from appcat.services.run import check_run

router = APIRouter(prefix="/v1", tags=["vms"])

Filters = Annotated[
    list[Annotated[str, Query(max_length=500)]],
    Query(alias="filter", max_length=32, description="label=KEY[=VALUE], name=PATTERN, status=STATUS, template=NAME."),
]
IfNoneMatch = Annotated[str | None, Header(max_length=1000, description="An ETag: 304 while it is still that.")]


@router.get("/vms", operation_id="list_vms", response_model=VmList, responses=errors(304))
async def list_vms(desk: AtDesk, filters: Filters = [], if_none_match: IfNoneMatch = None) -> Response:  # noqa: B006
    """List all vms, or those that all filters leave, by name; broken ones too, with the reason."""
    listed = await desk.listing.listed(parse_filters(filters))
    headers = {"ETag": quoted(listed.tag)}
    if is_known(if_none_match, listed.tag):
        return Response(status_code=304, headers=headers)
    return Response(listed.body, headers=headers, media_type="application/json")


@router.get("/vms/{name}", operation_id="show", response_model=VmDetails, responses=errors(404))
def show(name: Name, desk: AtDesk) -> Response:
    """Show all about one vm. Its ETag changes with what it is, not with its status."""
    app = desk.app
    headers = _tagged(app, name)  # first: the tag is never newer than what is shown
    return answer(app.show(name), headers=headers)


@router.post("/vms", operation_id="create", status_code=202, response_model=Accepted, responses=LONG_ERRORS)
def create(body: CreateBody, desk: AtDesk) -> Response:
    """Make a vm and leave it powered off; builds its template if need be."""
    request = body.request()
    check_request(desk.ctx, with_defaults(desk.ctx, request))

    def work(app: App, running: Running) -> None:
        running.result({"vm": app.create(request)})

    return desk.begin("create", [body.name], work)


@router.post("/run", operation_id="run", status_code=202, response_model=Accepted, responses=LONG_ERRORS)
def run(body: RunBody, desk: AtDesk) -> Response:
    """Make a vm, start it and wait for its guest."""
    request = body.request()
    check_run(desk.ctx, with_defaults(desk.ctx, request))

    def work(app: App, running: Running) -> None:
        vm = app.run(request, ready_within=body.ready_within, instant=body.instant, remove=body.remove)
        running.result({"vm": vm})

    return desk.begin("run", [body.name], work)


@router.patch("/vms/{name}", operation_id="edit", response_model=VmInfo, responses=errors(404, 409, 412))
def edit(name: Name, body: EditBody, desk: AtDesk, match: IfMatch = None) -> Response:
    """Change processors, memory, restart policy or autostart."""
    with expecting(name, if_match(match)) as expected:
        info = desk.app.edit(name, body.changes())
    return answer(info, headers={"ETag": quoted(expected.left)})


@router.post("/vms/{name}/label", operation_id="label", response_model=LabelList, responses=errors(404, 409, 412))
def label(name: Name, body: LabelBody, desk: AtDesk, match: IfMatch = None) -> Response:
    """Set labels and take others away, which need not be there."""
    app = desk.app
    if not body.add and not body.remove:
        return answer({"labels": app.label(name, {})}, headers=_tagged(app, name))
    with expecting(name, if_match(match)) as expected:
        labels = app.label(name, body.added(), body.remove)
    return answer({"labels": labels}, headers={"ETag": quoted(expected.left)})


@router.post("/vms/{name}/rename", operation_id="rename", response_model=VmInfo, responses=errors(404, 409, 412))
def rename(name: Name, body: RenameBody, desk: AtDesk, match: IfMatch = None) -> Response:
    """Give a stopped vm another name."""
    app = desk.app
    with expecting(name, if_match(match)):
        info = app.rename(name, body.name)
    return answer(info, headers=_tagged(app, body.name))


@router.delete("/vms/{name}", operation_id="delete", response_model=Changed, responses=errors(404, 409, 412))
def delete(
    name: Name,
    desk: AtDesk,
    force: Annotated[bool, Query(description="Also a vm that runs, or is broken.")] = False,
    match: IfMatch = None,
) -> Response:
    """Remove a vm with all its data."""
    with expecting(name, if_match(match)):
        desk.app.delete(name, force=force)
    return answer({"changed": True})


def _tagged(app: App, name: str) -> dict[str, str]:
    """The header with the vm's tag; none of one whose file cannot be read."""
    try:
        return {"ETag": quoted(app.context.store.tag(name))}
    except Broken:
        return {}
