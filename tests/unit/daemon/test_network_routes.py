"""Private networks over HTTP, and stopped vms on them; running ones are for tests/vm."""

from __future__ import annotations

import pytest

from appcat.daemon import server
from appcat.services import create, networks
from appcat.services.context import Context
from tests.unit.daemon.behind import Behind
from tests.unit.support.samples import sample_vm
from tests.unit.support.vms import add_vm

LAB = {"name": "lab", "subnet": "10.79.1.0/24", "internet": False, "labels": {"a": "b"}}


@pytest.fixture
def behind(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> Behind:
    monkeypatch.setattr(networks, "host_routes", list)
    monkeypatch.setattr(create.templates, "find", lambda _ctx, _name: None)
    add_vm(ctx, sample_vm("web"))
    return Behind(ctx, server.create_app(ctx))


def made(behind: Behind) -> None:
    assert behind.send("POST", "/v1/networks", json=LAB).status_code == 201


def test_a_network_is_made_at_once(behind: Behind) -> None:
    answer = behind.send("POST", "/v1/networks", json=LAB)
    assert (answer.status_code, answer.headers["location"]) == (201, "/v1/networks/lab")
    told = answer.json()
    assert {key: told[key] for key in LAB} == LAB
    assert (told["twin"], told["vms"], told["problem"]) == ("", [], "")
    listed = behind.send("GET", "/v1/networks").json()["networks"]
    assert [one["name"] for one in listed] == ["default", "lab"]
    assert listed[1] == told
    shown = behind.send("GET", "/v1/networks/lab").json()
    assert {key: shown[key] for key in told} == told
    assert (shown["state"], shown["members"]) == ("idle", [])


def test_a_stopped_vm_is_put_on_it_and_taken_off(behind: Behind) -> None:
    made(behind)
    body = {"network": "lab", "address": "10.79.1.5"}
    (there,) = behind.send("POST", "/v1/vms/web/networks", json=body).json()["networks"]
    assert (there["address"], there["names"]) == ("10.79.1.5", ["web.lab.appcat", "web"])
    assert behind.send("GET", "/v1/vms/web/networks").json() == {"networks": [there]}
    assert behind.send("GET", "/v1/vms/web").json()["networks"] == [there]
    shown = behind.send("GET", "/v1/networks/lab").json()
    assert shown["vms"] == ["web"]
    assert shown["members"] == [
        {"vm": "web", "status": "stopped", "mac": there["mac"], "address": "10.79.1.5", "names": there["names"]}
    ]
    behind.refused(409, "network-in-use", "DELETE", "/v1/networks/lab")
    behind.refused(409, "already-attached", "POST", "/v1/vms/web/networks", json={**body, "address": "10.79.1.6"})
    assert behind.send("DELETE", "/v1/vms/web/networks/lab").json() == {"networks": []}
    behind.refused(404, "attachment-not-found", "DELETE", "/v1/vms/web/networks/lab")
    assert behind.send("DELETE", "/v1/networks/lab").json() == {"changed": True}
    behind.refused(404, "network-not-found", "DELETE", "/v1/networks/lab")


def test_what_cannot_be_is_refused(behind: Behind) -> None:
    made(behind)
    behind.refused(409, "network-exists", "POST", "/v1/networks", json=LAB)
    behind.refused(409, "subnet-in-use", "POST", "/v1/networks", json={**LAB, "name": "x", "subnet": "10.79.0.0/16"})
    behind.refused(400, "invalid-subnet", "POST", "/v1/networks", json={"name": "x", "subnet": "10.79.1.0"})
    behind.refused(400, "invalid-name", "POST", "/v1/networks", json={"name": "none"})
    behind.refused(400, "invalid-input", "POST", "/v1/networks", json={"name": "x", "vlan": 7})
    behind.refused(404, "network-not-found", "POST", "/v1/networks", json={"name": "x", "twin": "nowhere"})
    behind.refused(404, "network-not-found", "GET", "/v1/networks/nowhere")
    behind.refused(400, "invalid-name", "GET", "/v1/networks/No")
    behind.refused(404, "network-not-found", "POST", "/v1/vms/web/networks", json={"network": "nowhere"})
    behind.refused(404, "vm-not-found", "POST", "/v1/vms/nobody/networks", json={"network": "lab"})
    for address in ("10.1", "10.1.1.1"):
        body = {"network": "lab", "address": address}
        behind.refused(400, "invalid-address", "POST", "/v1/vms/web/networks", json=body)
    behind.refused(409, "network-in-use", "DELETE", "/v1/networks/default")


def test_new_vms_are_refused_before_anything_is_made(behind: Behind) -> None:
    made(behind)
    behind.refused(404, "network-not-found", "POST", "/v1/vms", json={"name": "new", "networks": ["nowhere"]})
    behind.refused(400, "invalid-address", "POST", "/v1/vms", json={"name": "new", "networks": ["lab:10.1.1.1"]})
    behind.refused(400, "invalid-input", "POST", "/v1/vms", json={"name": "new", "networks": ["lab", "lab"]})
    behind.refused(404, "network-not-found", "POST", "/v1/run", json={"name": "new", "networks": ["nowhere"]})
    body = {"names": ["copy"], "networks": ["nowhere"]}
    behind.refused(404, "network-not-found", "POST", "/v1/vms/web/clone", json=body)
