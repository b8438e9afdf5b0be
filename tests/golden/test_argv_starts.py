"""QEMU takes each golden command line that this computer can run, and builds just the machine it describes."""

from __future__ import annotations

import dataclasses
import os
import random
import re
import shutil
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from appcat.model.host import Accelerator, Qemu, host_system
from appcat.model.machine import HOTPLUG_PORTS, HubPort, Purpose, SwitchPort, TapPort, nic_port
from appcat.model.port import PortForward, Protocol
from appcat.qemu import img
from appcat.qemu.monitor import Monitor
from appcat.services.listening import may_listen
from tests.golden.kernel import smallest_kernel
from tests.golden.machines import MACHINES, Machine
from tests.unit.support.processes import PATIENCE
from tests.unit.support.qemu import connect, spawned
from tests.unit.support.taps import tap

# Those of another operating system cannot start here; what they are is reviewed in ``test_argv``.
HERE = {name: machine for name, machine in MACHINES.items() if machine.host.system is host_system(sys.platform)}


@dataclass(frozen=True)
class Started:
    """A machine that waits before its first instruction, and a client of each of its monitors."""

    machine: Machine
    commands: Monitor
    looks: Monitor
    events: Monitor

    def human(self, line: str) -> str:
        return str(self.commands.execute("human-monitor-command", command_line=line))


def free_port(forward: PortForward) -> PortForward:
    kind = socket.SOCK_DGRAM if forward.protocol is Protocol.UDP else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind((forward.address, 0))
        return dataclasses.replace(forward, host=probe.getsockname()[1])


def moved_here(machine: Machine, directory: Path, ports: tuple[SwitchPort, ...]) -> Machine:
    """The machine with real files below ``directory``, free ports of the host, those ``ports`` of a switch, and
    translation, which every computer can do.
    """
    binary = shutil.which(f"qemu-system-{machine.vm.machine.arch}")
    if binary is None or not shutil.which("qemu-img"):
        pytest.skip(f"qemu-system-{machine.vm.machine.arch} or qemu-img is not installed")
    published = tuple(forward if forward.is_own else free_port(forward) for forward in machine.vm.ports)
    address = machine.vm.address and f"127.77.{os.getpid() % 256}.{random.randrange(1, 255)}"
    port = free_port(machine.vm.ssh_forward).host
    vm = dataclasses.replace(machine.vm, ports=published, ssh_port=port, address=address)
    host = dataclasses.replace(machine.host, accelerator=Accelerator.TCG, qemu=Qemu(binary, machine.host.qemu.version))
    here = Machine(
        vm=vm,
        host=host,
        home=directory / machine.home.relative_to("/"),
        runtime=directory,
        image=directory / machine.image.relative_to("/"),
    )
    here = dataclasses.replace(
        here,
        purpose=machine.purpose,
        memory=directory / "memory" if machine.memory else None,
        plugged=machine.plugged,
        ports=ports,
        internet=machine.internet,
        may_all=may_listen(1),
    )
    make_files(here)
    return here


def make_files(machine: Machine) -> None:
    wiring = machine.wiring
    for directory in (machine.image, machine.home / "disks"):
        directory.mkdir(parents=True)
    machine.boot.kernel.write_bytes(smallest_kernel(machine.vm.machine.arch))
    machine.boot.initramfs.write_bytes(b"initramfs")
    wiring.identity.write_text("name web\n")
    for disk, path in zip(machine.vm.disks, wiring.disks, strict=True):
        img.create(path, disk.size)
    if machine.memory:
        machine.memory.touch()
        os.truncate(machine.memory, machine.vm.memory)


def real_port(port: SwitchPort, directory: Path, stack: ExitStack) -> SwitchPort:
    """A tap that is one, or a path that can be bound."""
    match port:
        case TapPort():
            return TapPort(stack.enter_context(tap()))
        case HubPort():
            return dataclasses.replace(port, local=directory / port.local.name, hub=directory / port.hub.name)


@pytest.fixture(scope="module", params=HERE.values(), ids=HERE)
def started(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    directory = tmp_path_factory.mktemp("m")
    with ExitStack() as stack:
        ports = tuple(real_port(port, directory, stack) for port in request.param.ports)
        machine = moved_here(request.param, directory, ports)
        log = machine.home / "qemu.log"
        taps = [port.descriptor for port in ports if isinstance(port, TapPort)]
        qemu = stack.enter_context(spawned([*machine.argv, "-S"], log, taps))
        wiring = machine.wiring
        try:
            clients = [stack.enter_context(connect(path)) for path in (wiring.monitor, wiring.status, wiring.events)]
        except AssertionError:
            pytest.fail(f"QEMU did not start: {log.read_text()}")
        yield Started(machine, *clients)
        clients[0].execute("quit")
        assert qemu.wait(PATIENCE) == 0
    assert log.read_text() == "", "QEMU had something to say"


def options(machine: Machine, name: str) -> list[dict[str, str]]:
    """Every ``name`` option as its keys and values; the driver under ``driver``."""
    values = [value for option, value in zip(machine.argv, machine.argv[1:], strict=False) if option == name]
    return [
        dict(part.partition("=")[::2] for part in f"driver={value}".replace(",,", "\0").split(",")) for value in values
    ]


def pci_devices(buses: list[dict[str, Any]]) -> set[tuple[int, int]]:
    """Slot and function of everything on the root bus."""
    return {(device["slot"], device["function"]) for device in buses[0]["devices"]}


def test_all_three_monitors_answer_at_the_same_time(started: Started) -> None:
    for monitor in (started.commands, started.looks, started.events):
        waits = "inmigrate" if started.machine.purpose.incoming else "prelaunch"
        assert monitor.execute("query-status")["status"] == waits


def test_machine_is_who_it_should_be(started: Started) -> None:
    vm = started.machine.vm
    assert started.commands.execute("query-uuid") == {"UUID": vm.uuid}
    assert started.commands.execute("query-name") == {"name": vm.name}
    assert len(started.commands.execute("query-cpus-fast")) == vm.cpus
    assert started.commands.execute("query-memory-size-summary")["base-memory"] == vm.memory


def test_every_device_is_plugged_in(started: Started) -> None:
    devices = options(started.machine, "-device")
    plugged = {child["name"] for child in started.commands.execute("qom-list", path="/machine/peripheral")}
    assert {device["id"] for device in devices if "id" in device} <= plugged
    nameless = started.commands.execute("qom-list", path="/machine/peripheral-anon")
    kinds = sorted(child["type"] for child in nameless if child["name"] != "type")
    assert kinds == sorted(f"child<{device['driver']}>" for device in devices if "id" not in device)


def test_every_pci_device_sits_at_its_stated_address(started: Started) -> None:
    addresses = [device["addr"].partition(".") for device in options(started.machine, "-device") if "addr" in device]
    stated = {(int(slot, 16), int(function or "0")) for slot, _, function in addresses}
    assert stated <= pci_devices(started.commands.execute("query-pci"))


def test_root_ports_hold_what_was_plugged_in_and_nothing_else(started: Started) -> None:
    """Asked of the object tree: ``query-pci`` sees behind a bridge only when a guest has set it up."""
    devices = [child["name"] for child in started.commands.execute("qom-list", path="/machine/peripheral")]
    buses = {
        name: str(started.commands.execute("qom-get", path=f"/machine/peripheral/{name}", property="parent_bus"))
        for name in devices
        if name not in ("type", "mem")
    }
    assert len([name for name in devices if re.fullmatch(r"hot[0-9]+", name)]) == HOTPLUG_PORTS
    taken = {name: found[1] for name, bus in buses.items() if (found := re.search(r"/(hot[0-9]+)$", bus))}
    disks = {f"disk-{name}-device": port for name, port in started.machine.plugged.items()}
    cards = {f"nic{there.slot + 1}": nic_port(there.slot) for there in started.machine.vm.networks}
    assert taken == {**disks, **cards}


def test_every_card_is_wired_to_its_segment(started: Started) -> None:
    machine, shown = started.machine, started.human("info network")
    for there, port in zip(machine.vm.networks, machine.ports, strict=True):
        (card,) = re.findall(rf"^nic{there.slot + 1}: .*\n \\ seg{there.slot}: .*$", shown, re.MULTILINE)
        assert f"macaddr={there.mac}" in card
        assert ("fd=" if isinstance(port, TapPort) else str(port.local)) in card
        mtu = started.commands.execute("qom-get", path=f"/machine/peripheral/nic{there.slot + 1}", property="host_mtu")
        assert mtu == (0 if isinstance(port, TapPort) else port.mtu)
    assert ("restrict=on" in shown) is not machine.internet


def test_every_line_to_the_host_is_there(started: Started) -> None:
    labels = {chardev["label"] for chardev in started.commands.execute("query-chardev")}
    assert {"monitor", "status", "events", "console", "agent", "guest"} <= labels
    wiring = started.machine.wiring
    assert all(path.is_socket() for path in (wiring.agent, wiring.guest, wiring.console))
    assert wiring.console_log.is_file()


def test_every_disk_has_its_file_and_size(started: Started) -> None:
    nodes = {node["node-name"]: node for node in started.commands.execute("query-named-block-nodes", flat=True)}
    vm = started.machine.vm
    for disk, path in zip(vm.disks, started.machine.wiring.disks, strict=True):
        node = nodes[f"disk-{disk.name}"]
        image = node["image"]
        if started.machine.purpose is Purpose.RECEIVER:
            assert (node["drv"], image["virtual-size"]) == ("null-co", disk.size)
            continue
        assert (image["filename"], image["format"], image["virtual-size"]) == (str(path), "qcow2", disk.size)


def test_every_forward_is_listened_on(started: Started) -> None:
    lines = [line.split() for line in started.human("info usernet").splitlines()]
    listening = {(line[0], line[2], line[3], line[5]) for line in lines if "HOST_FORWARD" in line[0]}
    assert listening == {
        (f"{forward.protocol.upper()}[HOST_FORWARD]", shown(forward.address), str(forward.host), str(forward.guest))
        for forward in started.machine.forwards
    }


def shown(address: str) -> str:
    """An address as ``info usernet`` prints it."""
    return "*" if address == "0.0.0.0" else address


def test_memory_is_shared_with_whoever_is_given_it(started: Started) -> None:
    (backend,) = started.commands.execute("query-memdev")
    shared = started.machine.purpose is not Purpose.CLONE
    assert (backend["id"], backend["size"], backend["share"]) == ("mem", started.machine.vm.memory, shared)


def test_only_a_vm_of_its_own_gives_memory_back(started: Started) -> None:
    plugged = {child["name"] for child in started.commands.execute("qom-list", path="/machine/peripheral")}
    assert ("balloon" in plugged) is (started.machine.purpose is Purpose.SOLO)
