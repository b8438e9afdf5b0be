from __future__ import annotations

import dataclasses

import pytest

from appcat.services.verify import Facts, mistakes, shared
from tests.unit.support.samples import sample_vm

VM = sample_vm()
TRUE = Facts("web", "web", VM.machine_id, VM.nics[0].mac, "key", "random", 0.1)
KEYS = ("hostname", "machine_id", "mac", "host_key", "random")


def test_guest_that_is_who_it_should_be() -> None:
    assert mistakes(TRUE, VM) == []


@pytest.mark.parametrize("key", ["hostname", "machine_id", "mac"])
def test_guest_that_is_somebody_else(key: str) -> None:
    (text,) = mistakes(dataclasses.replace(TRUE, **{key: "other"}), VM)
    assert key in text and "other" in text


def test_guest_with_a_clock_of_its_own() -> None:
    assert "clock" in mistakes(dataclasses.replace(TRUE, skew=-60.0), VM)[0]


def test_fork_calls_itself_what_its_source_does() -> None:
    assert mistakes(TRUE, dataclasses.replace(VM, name="b", hostname="web")) == []


@pytest.mark.parametrize("key", KEYS)
def test_what_two_have_in_common_is_told(key: str) -> None:
    other = Facts("b", "b", "id", "mac", "another key", "other random", 0.0)
    assert shared([TRUE, other], KEYS) == []
    (text,) = shared([TRUE, dataclasses.replace(other, **{key: getattr(TRUE, key)})], KEYS)
    assert text.startswith("web and b have the same " + key)
