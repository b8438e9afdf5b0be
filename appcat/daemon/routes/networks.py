"""Private networks, and the vms on them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import Response

from appcat.daemon.answers import QEMU_ERRORS, AttachmentList, Changed, NetworkList, answer, errors
from appcat.daemon.desk import AtDesk
from appcat.daemon.inputs import LONGEST_NAME, JoiningBody, Name, NetworkBody
from appcat.model.shapes import NetworkDetails, NetworkInfo

router = APIRouter(prefix="/v1", tags=["networks"])

Network = Annotated[str, Path(description="A network's name.", max_length=LONGEST_NAME, examples=["lab"])]


@router.get("/networks", operation_id="list_networks", response_model=NetworkList, responses=errors(409))
def list_networks(desk: AtDesk) -> Response:
    """List the networks, by name, and the vms on each."""
    return answer({"networks": desk.app.list_networks()})


@router.post(
    "/networks", operation_id="create_network", status_code=201, response_model=NetworkInfo, responses=errors(404, 409)
)
def create_network(body: NetworkBody, desk: AtDesk) -> Response:
    """Make a private network; its address is in `Location`."""
    made = desk.app.create_network(body.request())
    return answer(made, 201, {"Location": f"/v1/networks/{made['name']}"})


@router.get(
    "/networks/{network}", operation_id="show_network", response_model=NetworkDetails, responses=errors(404, 409)
)
def show_network(network: Network, desk: AtDesk) -> Response:
    """Show all about one network: who is on it, under which address and names, and whether frames flow."""
    return answer(desk.app.show_network(network))


@router.delete("/networks/{network}", operation_id="delete_network", response_model=Changed, responses=errors(404, 409))
def delete_network(network: Network, desk: AtDesk) -> Response:
    """Remove a network that no vm is on."""
    desk.app.delete_network(network)
    return answer({"changed": True})


@router.get(
    "/vms/{name}/networks", operation_id="list_attachments", response_model=AttachmentList, responses=errors(404, 409)
)
def list_attachments(name: Name, desk: AtDesk) -> Response:
    """List the networks that a vm is on, with its address and its names there."""
    return answer({"networks": desk.app.list_attachments(name)})


@router.post(
    "/vms/{name}/networks", operation_id="attach_network", response_model=AttachmentList, responses=QEMU_ERRORS
)
def attach_network(name: Name, body: JoiningBody, desk: AtDesk) -> Response:
    """Put a vm on a network; a running one gets another network card at once."""
    return answer({"networks": desk.app.attach_network(name, body.joining())})


@router.delete(
    "/vms/{name}/networks/{network}",
    operation_id="detach_network",
    response_model=AttachmentList,
    responses=QEMU_ERRORS,
)
def detach_network(name: Name, network: Network, desk: AtDesk) -> Response:
    """Take a vm off a network, at once; its address there is free again."""
    return answer({"networks": desk.app.detach_network(name, network)})
