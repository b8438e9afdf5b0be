"""What the host can do, and what a bug report needs."""

from __future__ import annotations

import tempfile
from pathlib import Path

from fastapi import APIRouter
from starlette.responses import Response

from appcat.daemon.answers import CheckList, answer, errors
from appcat.daemon.desk import AtDesk
from appcat.daemon.inputs import Nothing
from appcat.services.bundle import write_bundle

router = APIRouter(prefix="/v1/doctor", tags=["home"])

GZIP = "application/gzip"


@router.get("", operation_id="doctor", response_model=CheckList, responses=errors())
def doctor(desk: AtDesk) -> Response:
    """Say what this host can do, and what to do where it cannot."""
    return answer({"checks": desk.app.doctor()})


@router.post(
    "/bundle",
    operation_id="bundle",
    response_class=Response,
    responses={**errors(507), 200: {"description": "A tar archive.", "content": {GZIP: {}}}},
)
def bundle(desk: AtDesk, _: Nothing | None = None) -> Response:
    """Collect what a bug report needs; names, keys and passwords that could be recognised are left out."""
    with tempfile.TemporaryDirectory() as directory:
        target = Path(directory) / "appcat-report.tar.gz"
        write_bundle(desk.app.context, target)
        headers = {"Content-Disposition": f'attachment; filename="{target.name}"'}
        return Response(target.read_bytes(), media_type=GZIP, headers=headers)
