"""Disks of a vm, on running ones too."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import Response

from appcat.daemon.answers import QEMU_ERRORS, DiskList, answer, errors
from appcat.daemon.desk import AtDesk
from appcat.daemon.inputs import DiskBody, Name, SizeBody

router = APIRouter(prefix="/v1/vms/{name}/disks", tags=["disks"])

DiskName = Annotated[str, Path(description="A disk's name.", max_length=200, examples=["data"])]


@router.get("", operation_id="list_disks", response_model=DiskList, responses=errors(404, 409))
def list_disks(name: Name, desk: AtDesk) -> Response:
    """List a vm's disks and what they take on the host."""
    return answer({"disks": desk.app.list_disks(name)})


@router.post("", operation_id="add_disk", response_model=DiskList, responses=QEMU_ERRORS)
def add_disk(name: Name, body: DiskBody, desk: AtDesk) -> Response:
    """Add an empty disk; a running guest has it at once."""
    return answer({"disks": desk.app.add_disk(name, body.name, body.checked_size())})


@router.delete("/{disk}", operation_id="remove_disk", response_model=DiskList, responses=QEMU_ERRORS)
def remove_disk(name: Name, disk: DiskName, desk: AtDesk) -> Response:
    """Remove a disk with all its data; of a running vm, only one that was added since it started."""
    return answer({"disks": desk.app.remove_disk(name, disk)})


@router.post("/{disk}/grow", operation_id="grow_disk", response_model=DiskList, responses=QEMU_ERRORS)
def grow_disk(name: Name, disk: DiskName, body: SizeBody, desk: AtDesk) -> Response:
    """Make a disk larger; a running guest's file system grows."""
    return answer({"disks": desk.app.grow_disk(name, disk, body.checked_size())})
