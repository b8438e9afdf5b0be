"""The API of a real daemon on its unix socket, with real vms behind it, told in the order in which a vm lives."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import socket
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from pydantic import TypeAdapter

from appcat.model.shapes import CheckInfo, OperationInfo, SettingInfo, StatsInfo, TemplateInfo, VmDetails, VmInfo
from tests.api import Api, Listener, Shell, daemon_with_web
from tests.cat import Cat, wait_until
from tests.conftest import cat_in, new_home

pytestmark = [pytest.mark.vm, pytest.mark.xdist_group("daemon-api")]

MIB = 1 << 20
BYTES = {"Content-Type": "application/octet-stream"}
TAR = {"Content-Type": "application/x-tar"}


@pytest.fixture(scope="module")
def home(cache: Any, request: pytest.FixtureRequest) -> Iterator[Cat]:
    yield from cat_in(new_home(), cache, request)


@pytest.fixture(scope="module")
def api(home: Cat) -> Iterator[Api]:
    """A daemon with one running vm, ``web``."""
    with daemon_with_web(home) as found:
        yield found


def is_shape(shape: Any, data: Any) -> None:
    """Whether an answer is what the document says: no key missing, none unknown."""
    assert TypeAdapter(shape).validate_python(data, strict=True) == data


# --- looking


def test_answers_are_what_the_document_says(api: Api) -> None:
    (vm,) = api.call("GET", "/v1/vms")["vms"]
    is_shape(VmInfo, vm)
    assert (vm["name"], vm["status"], vm["labels"]) == ("web", "running", {"role": "test"})
    is_shape(VmDetails, api.call("GET", "/v1/vms/web"))
    is_shape(StatsInfo, api.call("GET", "/v1/stats?interval=0"))
    for operation in api.call("GET", "/v1/operations")["operations"]:
        is_shape(OperationInfo, operation)
    for check in api.call("GET", "/v1/doctor")["checks"]:
        is_shape(CheckInfo, check)
    for template in api.call("GET", "/v1/templates")["templates"]:
        is_shape(TemplateInfo, template)
    for setting in api.call("GET", "/v1/config")["settings"]:
        is_shape(SettingInfo, setting)


def test_api_says_what_the_command_line_says(api: Api) -> None:
    assert api.call("GET", "/v1/vms")["vms"] == json.loads(api.cat("vm", "list", "--json"))
    assert api.call("GET", "/v1/vms/web") == api.cat.show("web")


def test_list_is_filtered_and_tagged(api: Api) -> None:
    assert len(api.call("GET", "/v1/vms?filter=label=role=test&filter=status=running")["vms"]) == 1
    assert api.call("GET", "/v1/vms?filter=name=x*") == {"vms": []}
    api.fails("invalid-filter", 400, "GET", "/v1/vms?filter=colour=red")
    tag = api.send("GET", "/v1/vms").headers["ETag"]
    assert api.send("GET", "/v1/vms", headers={"If-None-Match": tag}).status_code == 304
    assert api.send("GET", "/v1/vms", headers={"If-None-Match": '"x"'}).status_code == 200


def test_what_another_process_does_is_listed_at_once(api: Api) -> None:
    def status() -> Any:
        return api.call("GET", "/v1/vms")["vms"][0]["status"]

    for _ in range(3):
        api.cat("vm", "pause", "web")
        assert status() == "paused"
        api.cat("vm", "unpause", "web")
        assert status() == "running"


@pytest.mark.parametrize(
    ("code", "status", "method", "path", "body"),
    [
        ("vm-not-found", 404, "GET", "/v1/vms/nope", None),
        ("invalid-name", 400, "GET", "/v1/vms/No_Pe", None),
        ("vm-not-found", 404, "POST", "/v1/vms/nope/start", {}),
        ("vm-not-found", 404, "POST", "/v1/vms/nope/clone", {"names": ["x"]}),
        ("already-exists", 409, "POST", "/v1/vms", {"name": "web"}),
        ("already-exists", 409, "POST", "/v1/vms/web/clone", {"names": ["web"]}),
        ("invalid-name", 400, "POST", "/v1/vms", {"name": "No_Pe"}),
        ("template-not-found", 404, "POST", "/v1/vms", {"name": "x", "template": "nope"}),
        ("invalid-size", 400, "POST", "/v1/vms", {"name": "x", "memory": 1}),
        ("invalid-size", 400, "POST", "/v1/vms", {"name": "x", "disks": [{"name": "d", "size": 1}]}),
        ("invalid-label", 400, "POST", "/v1/vms", {"name": "x", "labels": {"a b": "c"}}),
        ("invalid-port", 400, "POST", "/v1/vms", {"name": "x", "ports": [{"host": 1, "guest": 1, "address": "x"}]}),
        ("invalid-input", 400, "POST", "/v1/vms", {"name": "x", "colour": "red"}),
        ("invalid-input", 400, "POST", "/v1/vms", {"name": "x", "cpus": True}),
        ("invalid-input", 400, "POST", "/v1/vms", {"name": "x", "cpus": "2"}),
        ("invalid-input", 400, "POST", "/v1/vms/web/clone", {"names": ["x"], "name": "y", "count": 2}),
        ("invalid-input", 400, "POST", "/v1/vms/web/wait", {"until": "happy", "timeout": 1}),
        ("invalid-input", 400, "PATCH", "/v1/vms/web", {}),
        ("template-not-found", 404, "POST", "/v1/templates/nope/build", {}),
        ("unknown-setting", 400, "GET", "/v1/config/nope", None),
        ("operation-not-found", 404, "GET", "/v1/operations/nope", None),
        ("disk-not-found", 404, "DELETE", "/v1/vms/web/disks/nope", None),
        ("port-not-found", 404, "DELETE", "/v1/vms/web/ports?host=1&guest=1", None),
        ("vm-running", 409, "DELETE", "/v1/vms/web", None),
    ],
)
def test_what_cannot_be_is_refused_at_once(api: Api, code: str, status: int, method: str, path: str, body: Any) -> None:
    before = api.call("GET", "/v1/vms")
    api.fails(code, status, method, path, body)
    assert api.call("GET", "/v1/vms") == before


# --- ports, disks


def test_ports_come_and_go(api: Api) -> None:
    forward = {"host": 28471, "guest": 80, "address": "127.0.0.1", "protocol": "tcp"}
    assert api.call("POST", "/v1/vms/web/ports", {"host": 28471, "guest": 80}) == {"changed": True}
    assert api.call("POST", "/v1/vms/web/ports", forward) == {"changed": False}
    assert forward in api.call("GET", "/v1/vms/web/ports")["ports"]
    assert api.call("DELETE", "/v1/vms/web/ports?host=28471&guest=80") == {"changed": True}
    assert forward not in api.call("GET", "/v1/vms/web/ports")["ports"]


def test_disks_come_grow_and_go(api: Api) -> None:
    def sizes(answer: Any) -> dict[str, int]:
        return {disk["name"]: disk["size"] for disk in answer["disks"]}

    data = {"data": 64 * MIB}
    assert sizes(api.call("POST", "/v1/vms/web/disks", {"name": "more", "size": 32 * MIB})) == {
        **data,
        "more": 32 * MIB,
    }
    assert api.guest("web", "test -d /disks/more && echo there") == "there\n"
    grown = {**data, "more": 48 * MIB}
    assert sizes(api.call("POST", "/v1/vms/web/disks/more/grow", {"size": 48 * MIB})) == grown
    assert sizes(api.call("GET", "/v1/vms/web/disks")) == grown
    assert sizes(api.call("DELETE", "/v1/vms/web/disks/more")) == data


def test_a_template_of_a_vm_comes_and_goes(api: Api) -> None:
    image = api.do("/v1/templates", {"vm": "web", "name": "mine"})["image"]
    assert [disk["name"] for disk in image["disks"]] == ["data"]
    shown = api.call("GET", "/v1/templates/mine")
    is_shape(TemplateInfo, shown)
    assert (shown["own"], shown["vms"], shown["image"]["digest"]) == (True, [], image["digest"])
    api.fails("template-exists", 409, "POST", "/v1/templates", {"vm": "web", "name": "mine"})
    api.fails("vm-not-found", 404, "POST", "/v1/templates", {"vm": "nobody", "name": "other"})
    api.do("/v1/vms", {"name": "of-mine", "template": "mine"})
    api.fails("template-in-use", 409, "DELETE", "/v1/templates/mine")
    api.call("DELETE", "/v1/vms/of-mine")
    (removed,) = api.call("DELETE", "/v1/templates/mine")["removed"]
    assert (removed["kind"], removed["what"]) == ("template", "mine")
    api.fails("template-not-found", 404, "GET", "/v1/templates/mine")


# --- a life, and the events of it


def test_life_of_a_vm_and_its_events(api: Api) -> None:
    with Listener(api) as heard:
        vm = api.do("/v1/vms", {"name": "life"})["vm"]
        is_shape(VmInfo, vm)
        assert api.do("/v1/vms/life/start", {}) == {"changed": True}
        assert api.do("/v1/vms/life/start") == {"changed": False}
        assert api.call("POST", "/v1/vms/life/pause") == {"changed": True}
        assert api.call("POST", "/v1/vms/life/unpause", {}) == {"changed": True}
        assert api.do("/v1/vms/life/wait", {"until": "ready", "timeout": 60}) is None
        cloned = api.do("/v1/vms/life/clone", {"names": ["copy"], "verify": True})
        assert [clone["name"] for clone in cloned["clones"]] == ["copy"] and cloned["kind"] == "instant"
        assert api.call("DELETE", "/v1/vms/copy?force=true") == {"changed": True}
        assert api.do("/v1/vms/life/stop", {"timeout": 60}) == {"changed": True}
        api.cat("vm", "label", "life", "made=here")  # what the command line does is heard as well
        renamed = api.call("POST", "/v1/vms/life/rename", {"name": "after"})
        assert renamed["name"] == "after" and renamed["labels"] == {"made": "here"}
        api.call("DELETE", "/v1/vms/after")
        heard.until("vm.deleted", "after")
    kinds = [kind for kind in heard.kinds() if kind.startswith("vm.")]
    wanted = ["vm.created", "vm.started", "vm.ready", "vm.paused", "vm.unpaused", "vm.created", "vm.cloned"]
    assert [kind for kind in kinds if kind in wanted][:5] == wanted[:5]
    assert kinds.index("vm.cloned") > kinds.index("vm.unpaused")
    assert [kind for kind in kinds if kind in ("vm.labelled", "vm.renamed")] == ["vm.labelled", "vm.renamed"]
    ids = [event["id"] for event in heard.events]
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    with Listener(api, after=ids[2]) as again:
        wait_until(lambda: len(again.events) >= len(ids) - 3, what="the events since")
        assert [event["id"] for event in again.events[: len(ids) - 3]] == ids[3:]
    listed = api.call("GET", f"/v1/events?after={ids[2]}&limit=2", headers={"Accept": "application/json"})
    assert listed["events"] == heard.events[3:5]


def test_events_that_never_were_are_lost(api: Api) -> None:
    with api.http.stream("GET", "/v1/events?after=1000000") as answer:
        found = []
        for line in answer.iter_lines():
            found.append(line)
            if line.startswith("data: "):
                break
    assert "event: lost" in found


def test_operation_is_cancelled(api: Api) -> None:
    identifier = api.begin("/v1/vms/web/wait", {"until": "stopped", "timeout": 600})
    assert api.call("GET", f"/v1/operations/{identifier}?wait=0.5")["state"] == "running"
    assert identifier in [one["id"] for one in api.call("GET", "/v1/operations?state=running")["operations"]]
    api.call("POST", f"/v1/operations/{identifier}/cancel")
    assert api.over(identifier)["state"] == "cancelled"
    api.fails("operation-ended", 409, "POST", f"/v1/operations/{identifier}/cancel")


def test_operation_that_fails_says_why(api: Api) -> None:
    found = api.over(api.begin("/v1/vms/web/wait", {"until": "stopped", "timeout": 0.5}))
    assert (found["state"], found["error"]["code"], found["error"]["exit_code"]) == ("failed", "deadline-exceeded", 9)


# --- two writers


def test_change_of_what_was_changed_since_is_refused(api: Api) -> None:
    api.do("/v1/vms", {"name": "tagged"})
    tag = api.send("GET", "/v1/vms/tagged").headers["ETag"]
    assert api.send("PATCH", "/v1/vms/tagged", {"autostart": True}, headers={"If-Match": tag}).status_code == 200
    for method, path, body in [
        ("PATCH", "/v1/vms/tagged", {"cpus": 2}),
        ("POST", "/v1/vms/tagged/label", {"add": {"a": "b"}}),
        ("POST", "/v1/vms/tagged/rename", {"name": "other"}),
        ("DELETE", "/v1/vms/tagged", None),
    ]:
        api.fails("stale", 412, method, path, body, headers={"If-Match": tag})
    shown = api.send("GET", "/v1/vms/tagged")
    assert (shown.json()["cpus"], shown.json()["labels"], shown.json()["autostart"]) == (1, {}, True)
    labelled = api.send(
        "POST", "/v1/vms/tagged/label", {"add": {"a": "b"}}, headers={"If-Match": f'"x", {shown.headers["ETag"]}'}
    )
    assert labelled.json() == {"labels": {"a": "b"}}
    assert labelled.headers["ETag"] == api.send("GET", "/v1/vms/tagged").headers["ETag"]
    api.fails("invalid-input", 400, "DELETE", "/v1/vms/tagged", headers={"If-Match": "tag"})
    api.call("DELETE", "/v1/vms/tagged", headers={"If-Match": labelled.headers["ETag"]})


def test_of_many_writers_with_one_tag_one_wins(api: Api) -> None:
    api.do("/v1/vms", {"name": "fought"})
    tag = api.send("GET", "/v1/vms/fought").headers["ETag"]

    def write(number: int) -> int:
        body = {"add": {"winner": str(number)}}
        return api.send("POST", "/v1/vms/fought/label", body, headers={"If-Match": tag}).status_code

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(write, range(8))) == [200] + [412] * 7
    api.call("DELETE", "/v1/vms/fought")


# --- the home


def test_settings(api: Api) -> None:
    assert api.call("PUT", "/v1/config/memory", {"value": "192M"})["value"] == "192M"
    assert api.call("GET", "/v1/config/memory")["source"] == "config.json"
    api.fails("invalid-size", 400, "PUT", "/v1/config/memory", {"value": "lots"})
    assert api.call("DELETE", "/v1/config/memory")["value"] is None


def test_report_and_metrics(api: Api) -> None:
    answer = api.send("POST", "/v1/doctor/bundle")
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as tar:
        assert tar.getnames()
    text = api.send("GET", "/metrics").text
    assert 'appcat_vms{status="running"} 1.0' in text
    assert 'appcat_operation_duration_seconds_count{verb="run"} 1.0' in text


# --- many at a time


def test_fifty_creates_at_once(api: Api) -> None:
    with ThreadPoolExecutor(50) as pool:
        begun = list(pool.map(lambda number: api.begin("/v1/vms", {"name": f"many-{number}"}), range(50)))
    assert {api.over(identifier)["state"] for identifier in begun} == {"succeeded"}
    vms = {vm["name"]: vm for vm in api.call("GET", "/v1/vms?filter=name=many-*")["vms"]}
    assert len(vms) == 50 and len({vm["ssh"]["address"] for vm in vms.values()}) == 50
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: api.call("DELETE", f"/v1/vms/{name}"), vms))
    assert [vm["name"] for vm in api.call("GET", "/v1/vms")["vms"]] == ["web"]


def test_idle_event_streams_keep_nobody_waiting(api: Api) -> None:
    with contextlib.ExitStack() as stack:
        lines = []
        for _ in range(200):
            line = stack.enter_context(contextlib.closing(socket.socket(socket.AF_UNIX)))
            line.connect(str(api.socket))
            line.sendall(b"GET /v1/events HTTP/1.1\r\nHost: appcat\r\n\r\n")
            line.settimeout(60)
            assert line.recv(100).startswith(b"HTTP/1.1 200")
            lines.append(line)
        threads = api.threads()
        for _ in range(20):
            api.call("GET", "/v1/vms")
            api.call("GET", "/v1/vms/web")
        assert "appcat_event_streams 200.0" in api.send("GET", "/metrics").text
        api.cat("vm", "label", "web", "heard=by-all")
        for line in lines:
            told = b""
            while b"heard" not in told:
                told += line.recv(65536)
        assert api.threads() <= threads + 5
    wait_until(lambda: "appcat_event_streams 0.0" in api.send("GET", "/metrics").text, what="their end")


# --- QEMU dies. Last: nothing else needs it then.


def test_death_of_qemu_is_told_to_who_is_inside(api: Api) -> None:
    before = api.descriptors()
    shell = Shell(api, "web", ["sleep", "1000"], stdin=True)
    with api.stream("/v1/vms/web/console") as line, api.stream("/v1/vms/web/tunnel?port=22") as tunnel:
        (qemu,) = api.cat.qemus()
        os.kill(qemu, signal.SIGKILL)
        assert shell.end()["error"]["code"] in ("guest-failed", "vm-not-running")
        while isinstance(frame := line.recv(60), bytes):
            pass
        assert json.loads(frame) == {"type": "end", "ending": "vm-ended"}
        while tunnel.recv(60):
            pass
    wait_until(lambda: api.descriptors() <= before, what="nothing left")
    wait_until(lambda: api.call("GET", "/v1/vms")["vms"][0]["status"] == "stopped", what="its end")
    api.fails("vm-not-running", 409, "POST", "/v1/vms/web/exec", {"command": ["true"]})
    assert httpx  # the client that all of this goes through
