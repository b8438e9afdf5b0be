"""The defaults of a home."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import Response

from appcat.daemon.answers import SettingList, answer, errors
from appcat.daemon.desk import AtDesk
from appcat.daemon.inputs import SettingBody
from appcat.model.shapes import SettingInfo

router = APIRouter(prefix="/v1/config", tags=["home"])

Key = Annotated[str, Path(description="A setting.", max_length=200, examples=["memory"])]


@router.get("", operation_id="list_settings", response_model=SettingList, responses=errors(409))
def list_settings(desk: AtDesk) -> Response:
    """List all settings, set or not."""
    return answer({"settings": desk.app.list_settings()})


@router.get("/{key}", operation_id="get_setting", response_model=SettingInfo, responses=errors(409))
def get_setting(key: Key, desk: AtDesk) -> Response:
    """Show one setting, and where its value comes from."""
    return answer(desk.app.get_setting(key))


@router.put("/{key}", operation_id="set_setting", response_model=SettingInfo, responses=errors(409, 507))
def set_setting(key: Key, body: SettingBody, desk: AtDesk) -> Response:
    """Remember a value."""
    return answer(desk.app.set_setting(key, body.value))


@router.delete("/{key}", operation_id="unset_setting", response_model=SettingInfo, responses=errors(409, 507))
def unset_setting(key: Key, desk: AtDesk) -> Response:
    """Forget a value: the built-in default holds again."""
    return answer(desk.app.unset_setting(key))
