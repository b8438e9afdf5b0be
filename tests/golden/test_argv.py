"""The command line, reviewed as text here and believed by QEMU in ``test_argv_starts``."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appcat.model.host import Accelerator, System
from appcat.model.vm import Arch
from appcat.qemu import argv as builder
from appcat.qemu.argv import argv, escape
from tests.golden.golden import check_argv
from tests.golden.machines import MACHINES, Machine


@pytest.mark.parametrize("name", MACHINES)
def test_command_line_is_as_reviewed(name: str) -> None:
    check_argv(f"{name}.txt", MACHINES[name].argv)


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_command_line_depends_on_nothing_but_its_inputs(machine: Machine) -> None:
    assert machine.argv == argv(machine.vm, machine.boot, machine.wiring, machine.host)


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_every_machine_starts_bare_and_is_known_by_its_uuid(machine: Machine) -> None:
    args = machine.argv
    assert {"-nodefaults", "-no-user-config"} < set(args)
    assert args[args.index("-uuid") + 1] == machine.vm.uuid
    assert not any(arg.startswith("exec:") for arg in args)


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_no_two_devices_share_an_address_or_an_id(machine: Machine) -> None:
    devices = [value for option, value in zip(machine.argv, machine.argv[1:], strict=False) if option == "-device"]
    fields = [
        field for device in devices for field in device.split(",") if field.startswith(("addr=", "id=", "bus=hot"))
    ]
    assert len(fields) == len(set(fields))


@pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
def test_machine_keeps_its_shape_whatever_accelerates_it(machine: Machine) -> None:
    """States saved from a vm must fit: only the processor may differ between accelerators."""
    others = [dataclasses.replace(machine.host, accelerator=accelerator) for accelerator in Accelerator]
    shapes = [argv(machine.vm, machine.boot, machine.wiring, host) for host in others]
    changing = {"-accel", "-cpu"}
    kept = [
        [arg for before, arg in zip(["", *shape], shape, strict=False) if before not in changing] for shape in shapes
    ]
    assert kept[0] == kept[1] == kept[2]


@pytest.mark.parametrize("system", System)
def test_sandbox_where_there_is_one(system: System) -> None:
    machine = MACHINES["linux-x86_64-tcg-minimal"]
    host = dataclasses.replace(machine.host, system=system)
    assert ("-sandbox" in builder.base_args(machine.vm, host)) is (system is System.LINUX)


@pytest.mark.parametrize("arch", Arch)
def test_hardware_acceleration_shows_the_hosts_processor(arch: Arch) -> None:
    models = {accelerator: builder.cpu_model(arch, accelerator) for accelerator in Accelerator}
    assert models[Accelerator.KVM] == models[Accelerator.HVF] == "host"
    assert models[Accelerator.TCG].startswith("max")


@given(st.text())
def test_a_value_stays_one_value(text: str) -> None:
    """QEMU ends an option at a single comma and reads two as one."""
    escaped = escape(text)
    assert escaped.replace(",,", "") == text.replace(",", "")
    assert escaped.replace(",,", ",") == text
