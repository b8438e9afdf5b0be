"""Tables of vms and networks: what stands in them, and that they fit a terminal of 80 columns."""

from __future__ import annotations

from typing import Any

import pytest

from appcat.cli import network_view, vm_view
from appcat.model.network import Attachment
from appcat.model.port import parse_forward
from appcat.model.status import Observation, Status
from appcat.services.describe import describe
from tests.unit.cli.test_output import on_a_terminal
from tests.unit.support.samples import sample_vm

LAB = Attachment("lab", "52:54:00:00:00:01", "10.77.1.12", 0)
DEFAULT = Attachment("default", "52:54:00:00:00:02", "10.77.123.123", 1)


def vm(name: str, *networks: Attachment, ports: tuple[str, ...] = ()) -> Any:
    forwards = tuple(parse_forward(port) for port in ports)
    return describe(Observation(name, Status.RUNNING, vm=sample_vm(name, networks=networks, ports=forwards)))


def network(**changes: Any) -> Any:
    plain = {
        "name": "lab", "subnet": "10.77.1.0/24", "internet": True, "twin": "", "created": "2026-11-25T00:00:00Z",
        "owner": "me", "labels": {}, "vms": ["app", "db"], "backend": "bridge", "state": "up", "detail": "",
        "members": [{"vm": "app", "status": "running", "mac": LAB.mac, "address": LAB.address,
                     "names": ["app.lab.appcat", "app"]}],
        "conflicts": [], "problem": "",
    }  # fmt: skip
    return {**plain, **changes}


def test_a_list_without_networks_is_as_narrow_as_ever(capsys: pytest.CaptureFixture[str]) -> None:
    vm_view.print_list([vm("web")])
    assert capsys.readouterr().out.split("\n")[0].split() == vm_view.COLUMNS


def test_addresses_are_shown_where_there_are_any(capsys: pytest.CaptureFixture[str]) -> None:
    vm_view.print_list(
        [vm("web", LAB, DEFAULT, ports=("8080:80",)), vm("db"), {"name": "x", "status": "broken", "detail": "?"}]
    )
    head, web, db, *_ = (line.split() for line in capsys.readouterr().out.splitlines())
    assert head[-2:] == ["IP", "PORTS"]
    assert web[-2:] == ["10.77.1.12,10.77.123.123", "8080:80"]
    assert db[-1] == "20022"


LIST = """
from tests.unit.cli.test_views import DEFAULT, LAB, vm
from appcat.cli.vm_view import print_list
print_list([vm("a-name-of-middling-length", LAB, DEFAULT, ports=("18080:80", "18443:443")), vm("db", DEFAULT)])
"""


def test_a_list_with_addresses_fits_a_terminal() -> None:
    lines = [line.rstrip() for line in on_a_terminal(LIST, NO_COLOR="1").splitlines()]
    assert max(map(len, lines)) <= 80
    assert [word for line in lines for word in line.split() if word.startswith("10.")] == [
        "10.77.1.12", "10.77.123.123", "10.77.123.123",
    ]  # fmt: skip
    assert {"18080:80", "18443:443"} <= {word for line in lines for word in line.split()}


def test_a_network_is_told_line_by_line(capsys: pytest.CaptureFixture[str]) -> None:
    network_view.print_details(
        network(internet=False, twin="other", labels={"a": "b"}, conflicts=["10.77.0.0/16 via tun0"])
    )
    said = capsys.readouterr().out
    for line in ("name         lab", "internet     no", "twin of      other", "state        up, bridge"):
        assert line in said.splitlines()
    assert "conflict     10.77.0.0/16 via tun0" in said
    assert said.splitlines()[-1].split() == ["app", "running", "10.77.1.12", "app.lab.appcat", "app"]


def test_a_network_that_is_down_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    network_view.print_details(network(state="down", detail="the switch was killed; it is started again", members=[]))
    said = capsys.readouterr().out
    assert "             the switch was killed; it is started again\n" in said
    assert "STATUS" not in said


NETWORKS = """
from tests.unit.cli.test_views import network
from appcat.cli.network_view import print_details, print_list
name = "a-long-name-of-a-network-that-somebody-gave-it-for-a-reason"
vms = [f"{name}-{number}" for number in range(20)]
print_list([network(name=name, twin=name, vms=[vm[-30:] for vm in vms]), network()])
print_details(network(detail="word " * 40, labels={f"key{n}": "value" for n in range(20)}, members=[]))
"""


def test_networks_fit_a_terminal() -> None:
    lines = [line.rstrip() for line in on_a_terminal(NETWORKS, NO_COLOR="1").splitlines()]
    assert max(map(len, lines)) <= 80
