from __future__ import annotations

import json
import math
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from appcat.daemon.inputs import (
    CloneBody,
    CreateBody,
    EditBody,
    ExecBody,
    ExecControl,
    ExecStart,
    JoiningBody,
    LabelBody,
    NetworkBody,
    PortBody,
    StopBody,
    WaitBody,
)
from appcat.errors import InvalidInput
from appcat.model.network import Joining
from appcat.model.port import PortForward, Protocol, own_forward
from appcat.model.size import GIB, MIB
from appcat.model.vm import CloneKind, RestartPolicy
from appcat.services.clone import CloneRequest
from appcat.services.create import CreateRequest
from appcat.services.edit import Changes
from appcat.services.networks import NetworkRequest


def test_whole_body_becomes_a_request() -> None:
    body = CreateBody.model_validate(
        {
            "name": "web",
            "template": "pico",
            "cpus": 2,
            "memory": 512 * MIB,
            "disks": [{"name": "data", "size": 2 * GIB}],
            "ports": [{"host": 5353, "guest": 53, "address": "0.0.0.0", "protocol": "udp"}],
            "networks": ["lab:10.77.1.5", "default"],
            "labels": {"role": "test"},
            "restart": "on-failure",
            "autostart": True,
        }
    )
    assert body.request() == CreateRequest(
        name="web",
        template="pico",
        cpus=2,
        memory=512 * MIB,
        disks=(("data", 2 * GIB),),
        ports=(PortForward(5353, 53, "0.0.0.0", Protocol.UDP),),
        networks=(Joining("lab", "10.77.1.5"), Joining("default")),
        labels={"role": "test"},
        restart=RestartPolicy.ON_FAILURE,
        autostart=True,
    )


def test_a_port_alone_is_published_by_its_number() -> None:
    bodies = [PortBody.model_validate(body) for body in ({"guest": 80}, {"guest": 53, "protocol": "udp"})]
    assert [body.forward() for body in bodies] == [own_forward(80), own_forward(53, Protocol.UDP)]
    assert PortBody.model_validate({"host": 8080, "guest": 80}).forward() == PortForward(8080, 80)


def test_what_is_left_out_is_left_to_the_services() -> None:
    assert CreateBody.model_validate({"name": "web"}).request() == CreateRequest("web")
    assert EditBody.model_validate({"cpus": 3}).changes() == Changes(cpus=3)


@pytest.mark.parametrize(
    ("body", "request_"),
    [
        ({"names": ["a", "b"]}, CloneRequest("web", ("a", "b"))),
        ({"name": "a", "count": 2, "kind": "instant"}, CloneRequest("web", ("a-1", "a-2"), CloneKind.INSTANT)),
        ({"names": ["a"], "fork": True}, CloneRequest("web", ("a",), None, True)),
        ({"names": ["a"], "networks": ["lab"]}, CloneRequest("web", ("a",), networks=(Joining("lab"),))),
        ({"names": ["a"], "networks": []}, CloneRequest("web", ("a",), networks=())),
    ],
)
def test_clones_are_named_or_numbered(body: dict[str, Any], request_: CloneRequest) -> None:
    assert CloneBody.model_validate(body).request("web") == request_


@pytest.mark.parametrize(
    ("model", "body"),
    [
        (CreateBody, {}),
        (CreateBody, {"name": "web", "colour": "red"}),
        (CreateBody, {"name": 1}),
        (CreateBody, {"name": "x" * 201}),
        (CreateBody, {"name": "web", "cpus": True}),
        (CreateBody, {"name": "web", "cpus": "2"}),
        (CreateBody, {"name": "web", "cpus": 1.0}),
        (CreateBody, {"name": "web", "cpus": 0}),
        (CreateBody, {"name": "web", "memory": 1 << 51}),
        (CreateBody, {"name": "web", "autostart": 1}),
        (CreateBody, {"name": "web", "restart": "sometimes"}),
        (CreateBody, {"name": "web", "disks": [{"name": "d", "size": 1}] * 17}),
        (CreateBody, {"name": "web", "disks": [{"name": "d", "size": 1, "file": "/etc/passwd"}]}),
        (CreateBody, {"name": "web", "ports": [{"host": 0, "guest": 80}]}),
        (CreateBody, {"name": "web", "ports": [{"host": 80, "guest": 65536}]}),
        (CreateBody, {"name": "web", "networks": "lab"}),
        (CreateBody, {"name": "web", "networks": [{"network": "lab"}]}),
        (CreateBody, {"name": "web", "networks": ["lab"] * 17}),
        (NetworkBody, {}),
        (NetworkBody, {"name": "lab", "subnet": 10}),
        (NetworkBody, {"name": "lab", "internet": "no"}),
        (NetworkBody, {"name": "lab", "bridge": "br0"}),
        (JoiningBody, {"network": "lab", "address": "x" * 16}),
        (JoiningBody, {"network": "lab", "mac": "52:54:00:00:00:01"}),
        (CreateBody, {"name": "web", "labels": {"a": 1}}),
        (CreateBody, {"name": "web", "labels": {str(number): "x" for number in range(65)}}),
        (StopBody, {"timeout": math.nan}),
        (StopBody, {"timeout": math.inf}),
        (StopBody, {"timeout": -1}),
        (StopBody, {"timeout": 1e9}),
        (StopBody, {"timeout": "1"}),
        (WaitBody, {"until": "happy", "timeout": 1.0}),
        (LabelBody, {"remove": "role"}),
        (CloneBody, {"names": ["x"] * 257}),
        (ExecBody, {"command": []}),
        (ExecBody, {"command": "uname"}),
        (ExecBody, {"command": ["a\0b"]}),
        (ExecBody, {"command": ["x"] * 4097}),
        (ExecStart, {"command": ["x"], "terminal": {"kind": "x y"}}),
        (ExecStart, {"command": ["x"], "terminal": {"columns": 0}}),
        (ExecControl, {"type": "explode"}),
    ],
)
def test_what_is_not_expected_is_refused(model: type[BaseModel], body: Any) -> None:
    with pytest.raises(ValidationError):
        model.model_validate(body)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"name": "web", "memory": 1}, "invalid-size"),
        ({"name": "web", "memory": 512 * MIB + 1}, "invalid-input"),
        ({"name": "web", "disks": [{"name": "d", "size": 1}]}, "invalid-size"),
        ({"name": "web", "networks": ["lab:10.77.1"]}, "invalid-address"),
        ({"name": "web", "networks": ["../lab"]}, "invalid-name"),
        ({"name": "web", "labels": {"a=b": "c"}}, "invalid-label"),
        ({"name": "web", "labels": {"a": "\n"}}, "invalid-label"),
        ({"name": "web", "ports": [{"host": 1, "guest": 1, "address": "localhost"}]}, "invalid-port"),
        ({"name": "web", "ports": [{"guest": 1, "address": "127.0.0.1"}]}, "invalid-port"),
    ],
)
def test_what_makes_no_sense_is_the_services_error(body: dict[str, Any], code: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        CreateBody.model_validate(body).request()
    assert refused.value.code == code


def test_a_network_is_as_it_was_given_or_left_to_the_services() -> None:
    assert NetworkBody.model_validate({"name": "lab"}).request() == NetworkRequest("lab")
    body = {"name": "lab", "subnet": "10.77.1.0/24", "internet": False, "twin": "default", "labels": {"a": "b"}}
    assert NetworkBody.model_validate(body).request() == NetworkRequest(
        "lab", "10.77.1.0/24", internet=False, twin="default", labels={"a": "b"}
    )
    assert JoiningBody.model_validate({"network": "lab"}).joining() == Joining("lab")
    assert JoiningBody.model_validate({"network": "lab", "address": "10.0.0.9"}).joining() == Joining("lab", "10.0.0.9")


@pytest.mark.parametrize(
    ("model", "body", "code"),
    [
        (NetworkBody, {"name": "../lab"}, "invalid-name"),
        (NetworkBody, {"name": "lab", "subnet": "8.8.8.0/24"}, "invalid-subnet"),
        (NetworkBody, {"name": "lab", "labels": {"a=b": "c"}}, "invalid-label"),
        (JoiningBody, {"network": "a/b"}, "invalid-name"),
        (JoiningBody, {"network": "lab", "address": "300.1.1.1"}, "invalid-address"),
    ],
)
def test_networks_that_make_no_sense_are_the_services_error(model: Any, body: dict[str, Any], code: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        made = model.model_validate(body)
        made.request() if model is NetworkBody else made.joining()
    assert refused.value.code == code


@pytest.mark.parametrize("body", [{"name": "x"}, {"count": 2}, {"names": ["a"], "name": "x", "count": 2}])
def test_clones_are_either_named_or_numbered(body: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        CloneBody.model_validate(body).request("web")


def test_messages_are_read_from_json() -> None:
    text = json.dumps(
        {"command": ["sh"], "stdin": True, "terminal": {"kind": "xterm-256color", "columns": 91, "rows": 23}}
    )
    assert ExecStart.model_validate_json(text).terminal is not None
    assert ExecControl.model_validate_json('{"type":"interrupt"}').type == "interrupt"
