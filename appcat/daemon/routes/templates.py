"""Recipes that images are built from."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import Response

from appcat.app import App
from appcat.daemon.answers import LONG_ERRORS, Accepted, RemovedList, TemplateList, answer, errors
from appcat.daemon.desk import AtDesk
from appcat.daemon.inputs import Nothing, TemplateBody
from appcat.model.shapes import TemplateInfo
from appcat.services import templates
from appcat.services.operations import Running
from appcat.services.template_files import check_new

router = APIRouter(prefix="/v1/templates", tags=["home"])

TemplateName = Annotated[str, Path(description="A template's name.", max_length=200, examples=["pico"])]


@router.get("", operation_id="list_templates", response_model=TemplateList, responses=errors())
def list_templates(desk: AtDesk) -> Response:
    """List the templates and whether they are built."""
    return answer({"templates": desk.app.list_templates()})


@router.post("/{name}/build", operation_id="build", status_code=202, response_model=Accepted, responses=LONG_ERRORS)
def build(name: TemplateName, desk: AtDesk, _: Nothing | None = None) -> Response:
    """Build a template's image from the packages of today. The result is `{"image": ImageInfo}`."""
    templates.check_build(desk.ctx, name)

    def work(app: App, running: Running) -> None:
        running.result({"image": app.build(name)})

    return desk.begin("build", [], work)


@router.post("", operation_id="create_template", status_code=202, response_model=Accepted, responses=LONG_ERRORS)
def create_template(body: TemplateBody, desk: AtDesk) -> Response:
    """Make a template of a vm: its disks as they are now. The result is `{"image": ImageInfo}`."""
    desk.ctx.store.find(body.vm)
    check_new(desk.ctx, body.name)

    def work(app: App, running: Running) -> None:
        running.result({"image": app.create_template(body.vm, body.name)})

    return desk.begin("create_template", [body.vm], work)


@router.post("/prune", operation_id="prune_templates", response_model=RemovedList, responses=errors(409))
def prune_templates(desk: AtDesk, _: Nothing | None = None) -> Response:
    """Remove images and packages that no template and no vm needs."""
    return answer({"removed": desk.app.prune_templates()})


@router.get("/{name}", operation_id="show_template", response_model=TemplateInfo, responses=errors(404))
def show_template(name: TemplateName, desk: AtDesk) -> Response:
    """Show a template, with the packages in its image."""
    return answer(desk.app.show_template(name))


@router.delete("/{name}", operation_id="delete_template", response_model=RemovedList, responses=errors(404, 409))
def delete_template(name: TemplateName, desk: AtDesk) -> Response:
    """Remove a template that did not come with appcat; of one that did, its image."""
    return answer({"removed": desk.app.delete_template(name)})
