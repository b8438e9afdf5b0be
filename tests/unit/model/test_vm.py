from __future__ import annotations

import pytest

from appcat.errors import InvalidInput
from appcat.model.port import OWN, PortForward, parse_forward
from appcat.model.vm import LARGEST_CPUS, check_cpus
from tests.unit.support.samples import sample_vm


def test_a_running_vm_holds_its_ssh_port_and_what_it_publishes() -> None:
    vm = sample_vm(ports=(parse_forward("8080:80"),))
    assert vm.forwards() == (PortForward(20022, 22), PortForward(8080, 80))
    assert vm.extras() == ()


def test_a_vm_with_an_address_has_its_ports_there() -> None:
    ports = tuple(map(parse_forward, ("8080:80", "80", "2376", "53/udp")))
    vm = sample_vm(ports=ports, address="127.77.3.4")
    assert [str(place) for place in vm.forwards()] == [
        "127.77.3.4:20022:22",
        "127.0.0.1:8080:80",
        "127.77.3.4:20080:80",
        "127.77.3.4:2376:2376",
        "127.77.3.4:20053:53/udp",
    ]
    assert [str(place) for place in vm.extras()] == [
        "127.77.3.4:22:22",
        "127.77.3.4:80:80",
        "127.77.3.4:53:53/udp",
    ]


def test_a_host_may_count_more_ports_as_low() -> None:
    vm = sample_vm(ports=(parse_forward("2376"),), address="127.77.3.4")
    assert str(vm.forwards(3000)[1]) == "127.77.3.4:22376:2376"
    assert str(vm.extras(3000)[1]) == "127.77.3.4:2376:2376"


def test_without_an_address_ports_by_number_are_where_they_were_given_one() -> None:
    vm = sample_vm(ports=(PortForward(23456, 80, OWN),))
    assert vm.forwards() == (PortForward(20022, 22), PortForward(23456, 80))
    assert vm.extras() == ()


def test_what_a_vm_is_sure_to_have_goes_before_what_it_might() -> None:
    vm = sample_vm(ports=tuple(map(parse_forward, ("127.77.3.4:80:8080", "80"))), address="127.77.3.4")
    assert str(vm.forwards()[1]) == "127.77.3.4:80:8080"
    assert [str(place) for place in vm.extras()] == ["127.77.3.4:22:22"]


@pytest.mark.parametrize(("count", "host"), [(1, 1), (4, 1), (8, 2), (LARGEST_CPUS, 128)])
def test_some_overcommitment_of_cpus_is_fine(count: int, host: int) -> None:
    assert check_cpus(count, host) == count


@pytest.mark.parametrize(("count", "host"), [(0, 2), (-1, 2), (9, 2), (5, 1), (LARGEST_CPUS + 1, 128)])
def test_too_many_or_too_few_cpus_are_refused(count: int, host: int) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_cpus(count, host)
    assert f"this host has {host}" in caught.value.hint
