"""Copies of vms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from fastapi import APIRouter
from starlette.responses import Response

from appcat.app import App
from appcat.daemon.answers import LONG_ERRORS, Accepted
from appcat.daemon.desk import AtDesk
from appcat.daemon.inputs import CloneBody, CloneSetBody, Name, Nothing
from appcat.model.operation import Failure
from appcat.model.shapes import CloneInfo
from appcat.services.clone import check_clone, check_clone_set
from appcat.services.operations import Running
from appcat.services.verify import check_kind

router = APIRouter(prefix="/v1", tags=["clones"])


@router.post("/vms/{name}/clone", operation_id="clone", status_code=202, response_model=Accepted, responses=LONG_ERRORS)
def clone(name: Name, body: CloneBody, desk: AtDesk) -> Response:
    """Clone a vm: its disks, and of one that runs its memory as well.

    The result is a `CloneInfo`. The operation fails when no clone could be made; else `failed` names those that could
    not.
    """
    request = body.request(name)
    if body.verify:
        check_kind(request.kind)
    check_clone(desk.ctx, request)

    def work(app: App, running: Running) -> None:
        info = app.clone(request, verify=body.verify)
        running.result(cast(dict[str, object], info))
        _fail_without_any(running, [info])

    return desk.begin("clone", [name, *request.names], work)


@router.post("/clone-set", operation_id="clone_set", status_code=202, response_model=Accepted, responses=LONG_ERRORS)
def clone_set(body: CloneSetBody, desk: AtDesk) -> Response:
    """Make instant clones of several running vms, one each, all of one moment."""
    pairs = [(pair.source, pair.name) for pair in body.pairs]
    check_clone_set(desk.ctx, pairs, fork=body.fork, networks=body.networks)

    def work(app: App, running: Running) -> None:
        infos = app.clone_set(pairs, fork=body.fork, networks=body.networks)
        running.result({"clones": infos})
        _fail_without_any(running, infos)

    return desk.begin("clone_set", [name for pair in pairs for name in pair], work)


@router.post(
    "/vms/{name}/flatten", operation_id="flatten", status_code=202, response_model=Accepted, responses=LONG_ERRORS
)
def flatten(name: Name, desk: AtDesk, _: Nothing | None = None) -> Response:
    """Make a vm independent of what it was cloned from."""
    desk.ctx.store.find(name)

    def work(app: App, running: Running) -> None:
        running.result({"changed": app.flatten(name)})

    return desk.begin("flatten", [name], work)


def _fail_without_any(running: Running, infos: Sequence[CloneInfo]) -> None:
    failed = [failure for info in infos for failure in info["failed"]]
    if failed and not any(info["clones"] for info in infos):
        first = failed[0]
        details = str(first.get("details", ""))
        failure = Failure(first["code"], first["message"], first["hint"], details, first["exit_code"])
        running.failed(failure.as_error())
