from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from appcat.model.status import Observation, Status
from appcat.services import edit, glance, observe
from appcat.services.context import Context
from appcat.services.glance import Glances
from appcat.store import locks
from tests.unit.support.fake_peer import FakePeer, qemu_says
from tests.unit.support.processes import holding
from tests.unit.support.samples import OTHER_UUID, sample_vm
from tests.unit.support.vms import add_vm, alive

Looks = list[str]


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    """The names of the vms that were really looked at."""
    seen: Looks = []

    def look(ctx: Context, name: str) -> Observation | None:
        seen.append(name)
        return observe.look_safely(ctx, name)

    monkeypatch.setattr(glance, "look_safely", look)
    return seen


@pytest.fixture
def settled(ctx: Context) -> Callable[[], None]:
    """Make everything in the home old: what is young is not remembered."""

    def settle() -> None:
        for path in [ctx.layout.vms, *sorted(ctx.layout.vms.rglob("*"), reverse=True)]:
            status = path.stat()
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns - 10_000_000_000))

    return settle


def glances(ctx: Context) -> Glances[Observation]:
    return Glances(ctx, lambda seen: seen)


def prepare(ctx: Context, name: str = "web", **changes: str) -> None:
    add_vm(ctx, sample_vm(name, **changes))
    with locks.hold(ctx.layout.vm(name).op_lock, "create"):
        pass


def test_stopped_vm_is_looked_at_once(ctx: Context, looks: Looks, settled: Callable[[], None]) -> None:
    prepare(ctx)
    prepare(ctx, "other", uuid=OTHER_UUID)
    settled()
    found = glances(ctx)
    first, second = found.look(), found.look()
    assert sorted(looks) == ["other", "web"]  # side by side
    assert all(one is again for one, again in zip(first, second, strict=True))
    assert [seen.status for seen in first] == [Status.STOPPED] * 2


def test_young_vm_is_looked_at_each_time(ctx: Context, looks: Looks) -> None:
    prepare(ctx)
    found = glances(ctx)
    found.look()
    found.look()
    assert looks == ["web"] * 2


@pytest.mark.parametrize(
    "change",
    [
        lambda ctx: edit.label(ctx, "web", {"a": "b"}),
        lambda ctx: ctx.layout.vm("web").spec.write_text("{}"),
        lambda ctx: ctx.layout.vm("web").spec.unlink(),
        lambda ctx: ctx.store.remove("web"),
    ],
    ids=["command", "editor", "removed", "deleted"],
)
def test_change_is_seen(
    ctx: Context, looks: Looks, settled: Callable[[], None], change: Callable[[Context], object]
) -> None:
    prepare(ctx)
    settled()
    found = glances(ctx)
    found.look()
    change(ctx)
    assert found.look() == observe.list_vms(ctx)


def test_change_of_the_same_length_in_place_is_seen(ctx: Context, settled: Callable[[], None]) -> None:
    prepare(ctx)
    settled()
    found = glances(ctx)
    found.look()
    spec = ctx.layout.vm("web").spec
    spec.write_text(spec.read_text().replace('"cpus": 2', '"cpus": 1'))
    (seen,) = found.look()
    assert seen.vm is not None and seen.vm.cpus == 1


def test_command_at_work_is_seen(ctx: Context, settled: Callable[[], None]) -> None:
    prepare(ctx)
    settled()
    found = glances(ctx)
    found.look()
    with holding(ctx.layout.vm("web").op_lock, "clone"):
        assert [(seen.status, seen.detail) for seen in found.look()] == [(Status.BUSY, "clone")]
    assert [seen.status for seen in found.look()] == [Status.STOPPED]


def test_answer_of_qemu_is_used_again_while_it_lives(
    ctx: Context, looks: Looks, settled: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(glance, "ANSWER_HOLDS", 3600.0)
    found = glances(ctx)
    with alive(ctx) as vm:
        for lock in (ctx.layout.vm("web").op_lock, ctx.layout.vm("web").status_lock):
            with locks.hold(lock, "start"):
                pass
        settled()
        with FakePeer(ctx.layout.runtime(vm.uuid).status, qemu_says("running")):
            assert [seen.status for seen in found.look()] == [Status.RUNNING]
        assert [seen.status for seen in found.look()] == [Status.RUNNING]
        assert looks == ["web"]
    assert [seen.status for seen in found.look()] == [Status.STOPPED]


def test_answer_of_qemu_gets_old(
    ctx: Context, looks: Looks, settled: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(glance, "ANSWER_HOLDS", 0.0)
    found = glances(ctx)
    with alive(ctx) as vm:
        for lock in (ctx.layout.vm("web").op_lock, ctx.layout.vm("web").status_lock):
            with locks.hold(lock, "start"):
                pass
        settled()
        with FakePeer(ctx.layout.runtime(vm.uuid).status, qemu_says("running"), qemu_says("paused")):
            assert [seen.status for seen in found.look()] == [Status.RUNNING]
            assert [seen.status for seen in found.look()] == [Status.PAUSED]
    assert looks == ["web"] * 2
