"""Against a real QEMU whose guest never runs: nobody there sets up a bus, or lets a device go."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from appcat.errors import QemuError
from appcat.model.machine import HOTPLUG_PORTS
from appcat.qemu.argv import hotplug_args
from appcat.qemu.hotplug import free_ports, has_device, plugged_in, take_out
from appcat.qemu.monitor import CommandRefused, Monitor
from tests.unit.support.fake_peer import Conversation, FakePeer
from tests.unit.support.qemu import connect, needs_qemu, spawned
from tests.unit.support.samples import UUID

CARD = {"driver": "virtio-net-pci", "id": "nic1", "bus": "hot7", "romfile": ""}


@pytest.fixture
def monitor(short: Path) -> Iterator[Monitor]:
    argv = ["qemu-system-x86_64", "-machine", "q35", "-S", "-nodefaults", "-display", "none", "-uuid", UUID]
    argv += [*hotplug_args(), "-device", "virtio-rng-pci,id=rng,bus=pcie.0,addr=0x3"]
    argv += ["-qmp", f"unix:{short / 'qmp.sock'},server=on,wait=off"]
    with spawned(argv, short / "log"), connect(short / "qmp.sock") as client:
        yield client


@needs_qemu
def test_what_is_plugged_in_is_known_before_a_guest_looks(monitor: Monitor) -> None:
    assert plugged_in(monitor) == {}
    assert free_ports(monitor) == [f"hot{number}" for number in range(HOTPLUG_PORTS)]
    monitor.execute("device_add", **CARD)
    monitor.execute("device_add", driver="virtio-rng-pci", id="more", bus="hot0")
    assert plugged_in(monitor) == {"nic1": "hot7", "more": "hot0"}
    assert free_ports(monitor) == [f"hot{number}" for number in range(1, HOTPLUG_PORTS - 1)]
    assert has_device(monitor, "nic1")
    assert not has_device(monitor, "nic2")


@needs_qemu
def test_a_device_that_is_not_there_is_out(monitor: Monitor) -> None:
    take_out(monitor, "nic1", 0.0)


@needs_qemu
def test_a_guest_that_does_not_let_go_is_waited_for_no_longer_than_told(monitor: Monitor) -> None:
    monitor.execute("device_add", **CARD)
    for _ in range(2):  # QEMU refuses a second request for a while
        with pytest.raises(QemuError, match="does not let go of nic1"):
            take_out(monitor, "nic1", 0.1)
    assert has_device(monitor, "nic1")


@needs_qemu
def test_a_device_that_can_never_be_taken_out_is_refused(monitor: Monitor) -> None:
    with pytest.raises(CommandRefused):
        take_out(monitor, "rng", 5.0)


def test_news_of_other_devices_is_not_what_is_waited_for(short: Path) -> None:
    said = []

    def script(peer: Conversation) -> None:
        peer.greet()
        peer.answer(peer.receive(), [{"name": "nic1", "type": "child<virtio-net-pci>"}])
        request = peer.receive()
        said.append(request["execute"])
        peer.answer(request, {})
        for device in ("disk-data-device", "nic1"):
            peer.send({"event": "DEVICE_DELETED", "data": {"device": device, "path": "/"}})
        request = peer.receive()
        said.append(request["execute"])
        peer.answer(request, [])

    with FakePeer(short / "qmp.sock", script), Monitor(short / "qmp.sock") as client:
        take_out(client, "nic1", 10.0)
    assert said == ["device_del", "qom-list"]
