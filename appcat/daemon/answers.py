"""What requests are answered: the shapes of ``model.shapes`` in their envelopes, made into JSON once."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from appcat.daemon.problems import Problem
from appcat.model.shapes import (
    AttachmentInfo,
    CheckInfo,
    DiskInfo,
    EventInfo,
    NetworkInfo,
    OperationInfo,
    PortInfo,
    RemovedInfo,
    SettingInfo,
    TemplateInfo,
    VmInfo,
)

if sys.version_info >= (3, 12):
    from typing import TypedDict
else:
    from typing_extensions import TypedDict


class VmList(TypedDict):
    """Vms, by name."""

    vms: list[VmInfo]


class Changed(TypedDict):
    """Whether anything was changed: it may have been so already."""

    changed: bool


class LabelList(TypedDict):
    """All labels of a vm."""

    labels: dict[str, str]


class PortList(TypedDict):
    """Port forwards of a vm, the one for SSH first."""

    ports: list[PortInfo]


class DiskList(TypedDict):
    """Disks of a vm."""

    disks: list[DiskInfo]


class NetworkList(TypedDict):
    """Private networks, by name."""

    networks: list[NetworkInfo]


class AttachmentList(TypedDict):
    """The networks that a vm is on."""

    networks: list[AttachmentInfo]


class TemplateList(TypedDict):
    """Templates, by name."""

    templates: list[TemplateInfo]


class RemovedList(TypedDict):
    """What gave its space back."""

    removed: list[RemovedInfo]


class SettingList(TypedDict):
    """All settings, set or not."""

    settings: list[SettingInfo]


class CheckList(TypedDict):
    """What the doctor found."""

    checks: list[CheckInfo]


class EventList(TypedDict):
    """Events, the oldest first."""

    events: list[EventInfo]


class OperationList(TypedDict):
    """Operations, the oldest first."""

    operations: list[OperationInfo]


class Accepted(TypedDict):
    """A long action that has begun: ask for it at ``Location``."""

    operation: OperationInfo


class Executed(TypedDict):
    """What a command came to. ``truncated`` when it wrote more than is told."""

    status: int
    stdout: str
    stderr: str
    truncated: bool


class Copied(TypedDict):
    """What was copied."""

    files: int
    bytes: int


_MEANINGS = {
    304: "It is still what you have.",
    400: "The request can never work; nothing has changed.",
    404: "There is no such thing.",
    409: "The present state forbids it.",
    412: "It was changed since (`stale`); nothing has changed now.",
    413: "The body is too large.",
    415: "The body is of another type than the route takes.",
    500: "A fault of appcat.",
    502: "QEMU, the guest or a program failed.",
    503: "The host lacks something, or as much is going on as may.",
    504: "It did not happen in time.",
    507: "No space is left.",
}


def errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors of a route, for its documentation: those of every route, and these."""
    wanted = sorted({400, 500, 503, *statuses})
    return {
        status: {"description": _MEANINGS[status], **({"model": Problem} if status >= 400 else {})} for status in wanted
    }


QEMU_ERRORS = errors(404, 409, 502, 507)
LONG_ERRORS = errors(404, 409, 507)
GUEST_ERRORS = errors(404, 409, 502, 504)


def answer(data: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """``data`` as JSON."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Response(text.encode(errors="replace"), status, headers, media_type="application/json")
