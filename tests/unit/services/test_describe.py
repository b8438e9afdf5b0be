from __future__ import annotations

import json

import pytest

from appcat.model.port import parse_forward
from appcat.model.run import ExitCause
from appcat.model.status import Observation, Status
from appcat.model.vm import Disk
from appcat.services.context import Context
from appcat.services.describe import describe, describe_fully
from tests.unit.support.samples import on, sample_exit, sample_run, sample_vm

VM = sample_vm(disks=(Disk("data", "data.qcow2", 1 << 30, 0),), ports=(parse_forward("53:53/udp"),), labels={"a": "b"})


def test_broken_vm_has_name_status_and_reason(ctx: Context) -> None:
    seen = Observation("web", Status.BROKEN, "vm.json is missing")
    assert describe(seen) == {"name": "web", "status": "broken", "detail": "vm.json is missing"}
    assert json.loads(json.dumps(describe_fully(ctx, seen)))["run"] is None


def test_everything_a_program_may_want_to_know_is_plain_json() -> None:
    described = describe(Observation("web", Status.RUNNING, vm=VM, run=sample_run()))
    assert json.loads(json.dumps(described)) == described
    assert described["status"] == "running"
    assert described["ssh"] == {"address": "127.0.0.1", "port": 20022, "user": "root"}
    assert described["ports"] == [{"host": 53, "guest": 53, "address": "127.0.0.1", "protocol": "udp"}]
    assert described["address"] == ""
    assert described["disks"] == [{"name": "data", "file": "data.qcow2", "size": 1 << 30, "slot": 0}]
    assert described["labels"] == {"a": "b"}
    assert (described["networks"], described["address"]) == ([], "")


def test_places_on_networks_with_the_names_that_reach_them() -> None:
    vm = sample_vm("web-fork", hostname="web", address="127.77.1.2", networks=(on("lab", "10.77.0.2", 3),))
    described = describe(Observation("web-fork", Status.RUNNING, vm=vm))
    assert described["address"] == "127.77.1.2"
    assert described["networks"] == [
        {
            "network": "lab",
            "mac": "52:54:0a:4d:00:02",
            "address": "10.77.0.2",
            "slot": 3,
            "names": ["web-fork.lab.appcat", "web-fork", "web"],
        }
    ]


def test_what_is_published_by_number_is_shown_where_it_is() -> None:
    vm = sample_vm(address="127.77.3.4", ports=(parse_forward("2376"), parse_forward("8080:80")))
    described = describe(Observation("web", Status.STOPPED, vm=vm))
    assert described["address"] == described["ssh"]["address"] == "127.77.3.4"
    assert described["ssh"]["ports"][0] == described["ssh"]["port"] == 20022
    assert described["ports"] == [
        {"host": 2376, "guest": 2376, "address": "127.77.3.4", "protocol": "tcp", "own": True},
        {"host": 8080, "guest": 80, "address": "127.0.0.1", "protocol": "tcp"},
    ]


@pytest.mark.parametrize("status", Status)
def test_process_is_shown_only_while_there_is_one(ctx: Context, status: Status) -> None:
    seen = Observation("web", status, vm=VM, run=sample_run(pid=7), last_exit=sample_exit(ExitCause.GUEST))
    full = describe_fully(ctx, seen)
    assert (full["run"] is not None) is (status not in (Status.STOPPED, Status.BROKEN))
    assert full["last_exit"]["cause"] == "guest"
    assert full["directory"] == str(ctx.layout.vm("web").root)
