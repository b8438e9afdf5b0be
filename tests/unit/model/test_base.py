from __future__ import annotations

import dataclasses

import pytest

from appcat.model import codec
from appcat.model.base import SCHEMA, Base, StateMismatch, check_fits
from appcat.model.host import Accelerator, Host, Qemu, System
from appcat.model.run import Run
from appcat.model.vm import Arch
from tests.unit.support.samples import sample_run, sample_vm

HOST = Host(System.LINUX, Arch.X86_64, Qemu("qemu-system-x86_64", "7.2.22"), Accelerator.TCG)
CPU = "max,la57=off"
BASE = Base("b", "2026-11-23T12:00:00Z", sample_vm(), "7.2.22", "tcg", CPU, "/dev/shm/b", backend="bridge")


@pytest.mark.parametrize("saved", [BASE, sample_run(backend="bridge")])
def test_what_fits(saved: Base | Run) -> None:
    check_fits(saved, "web", HOST, CPU, "bridge")
    check_fits(saved, "web", HOST, CPU)  # it has been detached from all


def test_what_was_on_no_network_fits_either_switch() -> None:
    check_fits(sample_run(), "web", HOST, CPU, "hub")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"qemu_version": "8.0.0"}, "QEMU 8.0.0"),
        ({"accelerator": "kvm"}, "the accelerator kvm"),
        ({"cpu": "host"}, "the processor model host"),
        ({"backend": "hub"}, "the switch hub; what would start now has bridge"),
    ],
)
def test_what_does_not(change: dict[str, str], words: str) -> None:
    with pytest.raises(StateMismatch, match=words) as caught:
        check_fits(dataclasses.replace(BASE, **change), "web", HOST, CPU, "bridge")
    assert "restart web" in caught.value.hint


def test_bases_of_an_appcat_without_networks_can_be_read() -> None:
    kind = codec.Kind("base.json", SCHEMA)
    text = codec.dumps(BASE, kind).replace(',\n  "backend": "bridge"', "").replace('  "networks": [],\n', "")
    assert "backend" not in text
    assert codec.loads(Base, text, kind).backend == ""
