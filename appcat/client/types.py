"""What methods of ``Client`` take and give, under one name."""

from __future__ import annotations

from appcat.errors import AppcatError
from appcat.guest.remote import Streams, Terminal
from appcat.model.network import Joining
from appcat.model.port import PortForward, Protocol, own_forward
from appcat.model.shapes import (
    AttachmentInfo,
    CheckInfo,
    CloneInfo,
    CopyInfo,
    DiskInfo,
    EventInfo,
    ImageInfo,
    NetworkDetails,
    NetworkInfo,
    OperationInfo,
    PortInfo,
    SettingInfo,
    StatsInfo,
    TemplateInfo,
    VmDetails,
    VmInfo,
)
from appcat.model.vm import CloneKind, RestartPolicy
from appcat.services.clone import CloneRequest
from appcat.services.console import Ending, Ends
from appcat.services.copy import Place
from appcat.services.create import CreateRequest
from appcat.services.edit import Changes
from appcat.services.logs import Source
from appcat.services.networks import NetworkRequest
from appcat.services.wait import Until

__all__ = [
    "AppcatError",
    "AttachmentInfo",
    "Changes",
    "CheckInfo",
    "CloneInfo",
    "CloneKind",
    "CloneRequest",
    "CopyInfo",
    "CreateRequest",
    "DiskInfo",
    "Ending",
    "Ends",
    "EventInfo",
    "ImageInfo",
    "Joining",
    "NetworkDetails",
    "NetworkInfo",
    "NetworkRequest",
    "OperationInfo",
    "Place",
    "PortForward",
    "PortInfo",
    "Protocol",
    "RestartPolicy",
    "SettingInfo",
    "Source",
    "StatsInfo",
    "Streams",
    "TemplateInfo",
    "Terminal",
    "Until",
    "VmDetails",
    "VmInfo",
    "own_forward",
]
