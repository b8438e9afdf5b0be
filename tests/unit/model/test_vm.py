from __future__ import annotations

import pytest

from appcat.errors import InvalidInput
from appcat.model.port import PortForward, parse_forward
from appcat.model.vm import LARGEST_CPUS, check_cpus
from tests.unit.support.samples import sample_vm


def test_a_running_vm_holds_its_ssh_port_and_what_it_publishes() -> None:
    vm = sample_vm(ports=(parse_forward("8080:80"),))
    assert vm.forwards == (PortForward(20022, 22), PortForward(8080, 80))


@pytest.mark.parametrize(("count", "host"), [(1, 1), (4, 1), (8, 2), (LARGEST_CPUS, 128)])
def test_some_overcommitment_of_cpus_is_fine(count: int, host: int) -> None:
    assert check_cpus(count, host) == count


@pytest.mark.parametrize(("count", "host"), [(0, 2), (-1, 2), (9, 2), (5, 1), (LARGEST_CPUS + 1, 128)])
def test_too_many_or_too_few_cpus_are_refused(count: int, host: int) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_cpus(count, host)
    assert f"this host has {host}" in caught.value.hint
