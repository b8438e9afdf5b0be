from __future__ import annotations

from collections.abc import Collection

import pytest

from appcat.model.port import PortForward, Protocol, own_forward, parse_forward
from appcat.model.vm import Vm
from appcat.services import places
from appcat.services.listening import Listening
from appcat.services.places import Outlook
from tests.unit.support.samples import sample_vm

HERE = "127.77.3.4"
VM = sample_vm(address=HERE, ports=(own_forward(80), own_forward(2376), own_forward(53, Protocol.UDP)))
SYSCTL = "sudo sysctl net.ipv4.ip_unprivileged_port_start=80"


class Table(Listening):
    """These are listened on at the vm's address, and these everywhere."""

    def __init__(self, here: Collection[int] = (), everywhere: Collection[int] = ()) -> None:
        super().__init__()
        self.here, self.everywhere = here, everywhere

    def has(self, place: PortForward) -> bool:
        return place.address == HERE and place.host in self.here

    def on_every_address(self, place: PortForward) -> bool:
        return place.host in self.everywhere


@pytest.fixture
def ordinary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "may_listen", lambda port: port >= 1024)
    monkeypatch.setattr(places, "lowest_port", lambda: 1024)


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "may_listen", lambda _: True)


def told(vm: Vm, alive: bool, table: Listening) -> list[str]:
    outlook = Outlook(vm, alive, table)
    assert all(place.own is (place.forward.address != "127.0.0.1") for place in (*outlook.ssh, *outlook.published))
    return [f"{place.forward.host} {place.advice}".strip() for place in (*outlook.ssh, *outlook.published)]


@pytest.mark.usefixtures("root")
def test_who_may_listen_everywhere_has_low_numbers_twice() -> None:
    running = Table(here=(20022, 22, 80, 20080, 2376, 53, 20053))
    expected = ["20022", "22", "80", "20080", "2376", "53", "20053"]
    assert told(VM, True, running) == expected
    assert told(VM, False, Table()) == expected


@pytest.mark.usefixtures("ordinary")
def test_an_ordinary_user_is_told_the_remedy() -> None:
    before = told(VM, False, Table())
    assert [line.split()[0] for line in before] == ["20022", "20080", "2376", "20053"]
    assert before[1] == f"20080 not at port 80, since this user may not listen below 1024: {SYSCTL}"
    assert before[2] == "2376"
    running = told(VM, True, Table(here=(20022, 20080, 2376, 20053)))
    assert running[0].endswith("ip_unprivileged_port_start=22, then: appcat vm restart web")
    assert running[1] == f"{before[1]}, then: appcat vm port add web 80"
    assert running[3].endswith("then: appcat vm port add web 53/udp")


@pytest.mark.usefixtures("root")
def test_what_runs_has_what_the_kernel_says_it_has() -> None:
    """Made when low ports were not allowed: now they are, and the vm does not have them yet."""
    running = told(VM, True, Table(here=(20022, 20080, 2376, 20053)))
    again = "appcat vm port add web 80"
    assert running[1] == f"20080 not at port 80, since it could not be had: try again with {again}"


@pytest.mark.parametrize("alive", [False, True])
@pytest.mark.usefixtures("root")
def test_a_program_that_listens_everywhere_is_named_as_the_reason(alive: bool) -> None:
    table = Table(here=(20022, 22, 20080, 2376, 53, 20053), everywhere=(80,))
    line = told(VM, alive, table)[2]
    assert line.startswith("20080 not at port 80, since a program listens on it everywhere: end that")
    assert ("vm port add" in line) is alive


@pytest.mark.usefixtures("root")
def test_a_port_whose_addition_was_cut_off_is_not_there_yet() -> None:
    running = told(VM, True, Table(here=(20022, 22, 53, 20053)))
    assert running[2:4] == [
        "20080 it is not there yet: appcat vm port add web 80",
        "2376 it is not there yet: appcat vm port add web 2376",
    ]


@pytest.mark.usefixtures("ordinary")
def test_ports_at_a_stated_place_are_where_they_were_put() -> None:
    vm = sample_vm(address=HERE, ports=(parse_forward("8080:80"),))
    assert told(vm, True, Table(here=(20022,)))[1:] == ["8080"]


@pytest.mark.usefixtures("ordinary")
def test_a_vm_without_an_address_has_its_ports_where_they_were_given() -> None:
    vm = sample_vm(ports=(PortForward(23456, 80, "own"),))
    outlook = Outlook(vm, True, Table())
    assert [place.forward for place in outlook.ssh] == [PortForward(20022, 22)]
    (place,) = outlook.published
    assert (place.forward, place.own, place.advice) == (PortForward(23456, 80), True, "")
