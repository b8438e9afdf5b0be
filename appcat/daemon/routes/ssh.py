"""How to log in to a guest with any SSH client, through a tunnel."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from appcat.daemon.answers import answer, errors
from appcat.daemon.desk import AtDesk
from appcat.daemon.inputs import Name
from appcat.model.shapes import SshAccess
from appcat.services.ssh_access import ssh_access

router = APIRouter(prefix="/v1/vms/{name}/ssh", tags=["inside"])


@router.get("", operation_id="ssh", response_model=SshAccess, responses=errors(404, 409))
def ssh(name: Name, desk: AtDesk) -> Response:
    """Tell the guest's account and host key, and the private key that logs in to it: keep that to yourself."""
    return answer(ssh_access(desk.ctx, name), headers={"Cache-Control": "no-store"})
