"""Ports of the host that lead into a guest."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from starlette.responses import Response

from appcat.daemon.answers import QEMU_ERRORS, Changed, PortList, answer, errors
from appcat.daemon.desk import AtDesk
from appcat.daemon.inputs import Name, PortBody, forward_of

router = APIRouter(prefix="/v1/vms/{name}/ports", tags=["ports"])

Number = Annotated[int, Query(ge=1, le=65535)]


@router.get("", operation_id="list_ports", response_model=PortList, responses=errors(404, 409))
def list_ports(name: Name, desk: AtDesk) -> Response:
    """List a vm's port forwards, the one for SSH first."""
    return answer({"ports": desk.app.list_ports(name)})


@router.post("", operation_id="add_port", response_model=Changed, responses=QEMU_ERRORS)
def add_port(name: Name, body: PortBody, desk: AtDesk) -> Response:
    """Forward a host port, at once when the vm runs."""
    return answer({"changed": desk.app.add_port(name, body.forward())})


@router.delete("", operation_id="remove_port", response_model=Changed, responses=QEMU_ERRORS)
def remove_port(
    name: Name,
    desk: AtDesk,
    guest: Number,
    host: Annotated[int | None, Query(ge=1, le=65535)] = None,
    address: Annotated[str | None, Query(max_length=15)] = None,
    protocol: Literal["tcp", "udp"] = "tcp",
) -> Response:
    """Take a forward away; connections that go through it end. Without `host`, one published by its number."""
    desk.app.remove_port(name, forward_of(host, guest, address, protocol))
    return answer({"changed": True})
