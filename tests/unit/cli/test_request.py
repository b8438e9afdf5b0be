from __future__ import annotations

from typing import Any

import pytest

from appcat.cli.request import create_request
from appcat.errors import InvalidInput
from appcat.model.network import Joining
from appcat.model.port import parse_forward
from appcat.model.size import GIB, MIB
from appcat.services.create import CreateRequest


def request(**given: Any) -> CreateRequest:
    nothing = dict.fromkeys(("cpus", "memory", "template", "restart", "disk", "publish", "network", "label"))
    fixed = {"name": "web", "autostart": False}
    return create_request(**{**nothing, **fixed, **given})


def test_what_is_not_given_is_left_to_the_defaults() -> None:
    assert request() == CreateRequest("web")


def test_texts_become_values() -> None:
    given = request(
        memory="512M", disk=["2G", "logs=64M"], publish=["8080:80", "53/udp"], label=["role=front", "note=a=b"]
    )
    assert given.memory == 512 * MIB
    assert given.disks == (("data", 2 * GIB), ("logs", 64 * MIB))
    assert given.ports == (parse_forward("8080:80"), parse_forward("53/udp"))
    assert given.labels == {"role": "front", "note": "a=b"}
    assert given.networks is None


def test_networks_are_none_some_or_left_to_the_defaults() -> None:
    assert request(network=["lab:10.77.1.5", "default"]).networks == (Joining("lab", "10.77.1.5"), Joining("default"))
    assert request(network=["none"]).networks == ()
    assert request(network=[]).networks is None


@pytest.mark.parametrize(
    "given",
    [
        {"memory": ""},
        {"memory": "0M"},
        {"memory": "-1G"},
        {"disk": ["lots"]},
        {"disk": ["../x=1G"]},
        {"disk": ["=1G"]},
        {"publish": ["80:"]},
        {"network": ["none", "lab"]},
        {"network": ["lab:"]},
        {"network": ["lab:10.77.1"]},
        {"network": ["Lab"]},
        {"label": ["x"]},
        {"label": ["a=1", "a=2"]},
    ],
)
def test_what_cannot_be_read_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        request(**given)
