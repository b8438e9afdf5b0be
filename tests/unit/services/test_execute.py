from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from appcat.errors import WrongState
from appcat.model.vm import Disk
from appcat.services.context import Context
from appcat.services.disks import remove_disk
from appcat.services.execute import reach, run_quietly, session, ssh_command
from tests.unit.support.fake_peer import Conversation, FakePeer, qemu_says
from tests.unit.support.samples import sample_vm
from tests.unit.support.vms import add_vm, alive


def open_session(ctx: Context, name: str) -> None:
    with session(ctx, name):
        pass


WAYS: dict[str, Callable[[Context], object]] = {
    "exec": lambda ctx: run_quietly(ctx, "web", ["true"]),
    "cp": lambda ctx: open_session(ctx, "web"),
    "ssh": lambda ctx: ssh_command(ctx, "web"),
    "getip": lambda ctx: reach(ctx, "web"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("status", ["paused", "io-error"])
def test_paused_vm_is_refused_before_ssh_is_tried(ctx: Context, way: str, status: str) -> None:
    with (
        alive(ctx) as vm,
        FakePeer(ctx.layout.runtime(vm.uuid).status, qemu_says(status)),
        pytest.raises(WrongState) as caught,
    ):
        WAYS[way](ctx)
    assert caught.value.code == "vm-paused"
    assert caught.value.hint.endswith("appcat vm unpause web")


@pytest.mark.parametrize("way", WAYS)
def test_stopped_vm_is_told_from_a_paused_one(ctx: Context, way: str) -> None:
    add_vm(ctx)
    with pytest.raises(WrongState) as caught:
        WAYS[way](ctx)
    assert caught.value.code == "vm-not-running"


def test_disk_of_a_paused_vm_cannot_be_unmounted(ctx: Context) -> None:
    """To SSH the vm is busy, with the removal itself: QEMU is asked."""
    disk = Disk("logs", "logs.qcow2", 1 << 20, 0)

    def script(peer: Conversation) -> None:
        peer.greet()
        request = peer.receive()
        assert request["execute"] == "query-block"
        qdev = f"/machine/peripheral/disk-{disk.name}-device/virtio-backend"
        peer.answer(request, [{"qdev": qdev, "inserted": {"node-name": f"disk-{disk.name}", "file": "/logs.qcow2"}}])
        request = peer.receive()
        assert request["execute"] == "query-status"
        peer.answer(request, {"status": "paused", "running": False})

    with (
        alive(ctx, dataclasses.replace(sample_vm(), disks=(disk,))) as vm,
        FakePeer(ctx.layout.runtime(vm.uuid).monitor, script),
        pytest.raises(WrongState) as caught,
    ):
        remove_disk(ctx, "web", disk.name)
    assert caught.value.code == "vm-paused"
    assert ctx.store.load("web").disks == vm.disks
