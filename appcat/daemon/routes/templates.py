"""Recipes that images are built from."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import Response

from appcat.app import App
from appcat.daemon.answers import LONG_ERRORS, Accepted, TemplateList, answer, errors
from appcat.daemon.desk import AtDesk
from appcat.daemon.inputs import Nothing
from appcat.services import templates
from appcat.services.operations import Running

router = APIRouter(prefix="/v1/templates", tags=["home"])

TemplateName = Annotated[str, Path(description="A template's name.", max_length=200, examples=["pico"])]


@router.get("", operation_id="list_templates", response_model=TemplateList, responses=errors())
def list_templates(desk: AtDesk) -> Response:
    """List the templates and whether they are built."""
    return answer({"templates": desk.app.list_templates()})


@router.post("/{name}/build", operation_id="build", status_code=202, response_model=Accepted, responses=LONG_ERRORS)
def build(name: TemplateName, desk: AtDesk, _: Nothing | None = None) -> Response:
    """Build a template's image from the packages of today. The result is `{"image": ImageInfo}`."""
    templates.find(desk.ctx, name)

    def work(app: App, running: Running) -> None:
        running.result({"image": app.build(name)})

    return desk.begin("build", [], work)
