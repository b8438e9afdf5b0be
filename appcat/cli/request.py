"""From the options of ``create`` and ``run`` to a checked request."""

from __future__ import annotations

from appcat.errors import InvalidInput
from appcat.model.name import parse_label
from appcat.model.network import Joining, parse_joinings
from appcat.model.port import parse_forward
from appcat.model.size import parse_disk, parse_memory
from appcat.model.vm import RestartPolicy, check_disk_name
from appcat.services.create import FIRST_DISK, CreateRequest


def create_request(
    name: str,
    template: str | None,
    cpus: int | None,
    memory: str | None,
    disk: list[str] | None,
    publish: list[str] | None,
    network: list[str] | None,
    label: list[str] | None,
    restart: RestartPolicy | None,
    autostart: bool,
) -> CreateRequest:
    """Parse the texts; raises InvalidInput."""
    return CreateRequest(
        name=name,
        template=template,
        cpus=cpus,
        memory=None if memory is None else parse_memory(memory),
        disks=parse_disks(disk or []),
        ports=tuple(parse_forward(text) for text in publish or ()),
        networks=joinings(network),
        labels=parse_labels(label or []),
        restart=restart,
        autostart=autostart,
    )


def joinings(texts: list[str] | None) -> tuple[Joining, ...] | None:
    """What ``--network`` says, None where nothing is said; raises InvalidInput."""
    return parse_joinings(texts) if texts else None


def parse_labels(texts: list[str]) -> dict[str, str]:
    """``KEY=VALUE`` texts; raises InvalidInput."""
    labels = dict(parse_label(text) for text in texts)
    if len(labels) != len(texts):
        raise InvalidInput("a label is given twice", hint="give each key once")
    return labels


def parse_disks(texts: list[str]) -> tuple[tuple[str, int], ...]:
    """``[NAME=]SIZE`` texts; raises InvalidInput."""
    return tuple(_disk(text) for text in texts)


def _disk(text: str) -> tuple[str, int]:
    """``[NAME=]SIZE``."""
    name, equals, size = text.rpartition("=")
    return (check_disk_name(name) if equals else FIRST_DISK), parse_disk(size)
