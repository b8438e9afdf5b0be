"""From the options of ``create`` and ``run`` to a checked request."""

from __future__ import annotations

from appcat.errors import InvalidInput
from appcat.model.name import parse_label
from appcat.model.port import parse_forward
from appcat.model.size import parse_disk, parse_memory
from appcat.model.vm import RestartPolicy
from appcat.services.create import CreateRequest


def create_request(
    name: str,
    template: str,
    cpus: int | None,
    memory: str | None,
    disk: str | None,
    publish: list[str] | None,
    label: list[str] | None,
    restart: RestartPolicy,
    autostart: bool,
) -> CreateRequest:
    """Parse the texts; raises InvalidInput."""
    return CreateRequest(
        name=name,
        template=template,
        cpus=cpus,
        memory=None if memory is None else parse_memory(memory),
        disk=None if disk is None else parse_disk(disk),
        ports=tuple(parse_forward(text) for text in publish or ()),
        labels=_labels(label or []),
        restart=restart,
        autostart=autostart,
    )


def _labels(texts: list[str]) -> dict[str, str]:
    labels = dict(parse_label(text) for text in texts)
    if len(labels) != len(texts):
        raise InvalidInput("a label is given twice", hint="give each key once")
    return labels
