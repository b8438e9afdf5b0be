from __future__ import annotations

import contextlib
import os
import types
from pathlib import Path
from typing import Any

import pytest

from appcat.errors import NotFound
from appcat.model.size import MIB
from appcat.model.status import Observation, Status
from appcat.model.vm import Disk
from appcat.services import stats as service
from appcat.services.context import Context
from appcat.services.stats import Sampler, Usage, proportional_memory, stats, total
from appcat.store.files import make_private_directory
from tests.unit.support.processes import PATIENCE, Child
from tests.unit.support.qemu import connect, idle_argv, needs_qemu, spawned
from tests.unit.support.samples import OTHER_UUID, UUID, sample_run, sample_vm
from tests.unit.support.vms import add_vm, alive, lock_of_life


def test_no_vms_take_nothing(ctx: Context) -> None:
    assert stats(ctx, interval=0) == []
    assert total([]) == Usage("total", "")


def test_the_sum_counts_the_memory_that_could_be_used_of_running_vms_only() -> None:
    usages = [
        Usage("a", "running", 50.5, 100, 1000, 7, 70, 5),
        Usage("b", "stopped", 0, 0, 0, 3, 30),
        Usage("c", "paused", 0.5, 20, 2000, 0, 0, 9),
    ]
    assert total(usages) == Usage("total", "", 51.0, 120, 3000, 10, 100)


def test_a_stopped_vm_takes_disk_alone(ctx: Context) -> None:
    add_vm(ctx, sample_vm(disks=(Disk("data", "data.qcow2", 64 * MIB, 0), Disk("lost", "lost.qcow2", 32 * MIB, 1))))
    file = ctx.layout.vm("web").disks / "data.qcow2"
    make_private_directory(file.parent)
    file.write_bytes(b"x" * 8192)
    allocated = file.stat().st_blocks * 512
    assert stats(ctx, interval=0) == [Usage("web", "stopped", disk=allocated, disk_limit=96 * MIB)]


def test_a_broken_vm_is_a_line_of_its_own(ctx: Context) -> None:
    add_vm(ctx)
    ctx.layout.vm("web").spec.write_text("damaged")
    add_vm(ctx, sample_vm("db", uuid=OTHER_UUID))
    assert stats(ctx, interval=0) == [Usage("db", "stopped"), Usage("web", "broken")]


def test_names_choose_and_order(ctx: Context) -> None:
    add_vm(ctx)
    add_vm(ctx, sample_vm("db", uuid=OTHER_UUID))
    assert [usage.name for usage in stats(ctx, ["web", "db"], 0)] == ["web", "db"]
    assert [usage.name for usage in stats(ctx, ["db"], 0)] == ["db"]
    with pytest.raises(NotFound):
        stats(ctx, ["web", "missing"], 0)


def test_a_process_that_took_the_number_over_is_not_the_vm(ctx: Context) -> None:
    add_vm(ctx, run=sample_run(pid=os.getpid()))
    with lock_of_life(ctx, "web"):
        (usage,) = stats(ctx, ["web"], 0)
    assert (usage.memory, usage.cpu, usage.uptime) == (0, 0, 0)


@needs_qemu
def test_a_running_qemu_takes_memory(ctx: Context) -> None:
    add_vm(ctx)
    status = ctx.layout.runtime(UUID).status
    make_private_directory(status.parent)
    with (
        lock_of_life(ctx, "web") as lock,
        spawned(idle_argv(UUID, status), ctx.layout.vm("web").qemu_log, [lock]) as qemu,
    ):
        ctx.store.save_run("web", sample_run(pid=qemu.pid))
        connect(status).close()
        (usage,) = stats(ctx, interval=0)
        assert 0 < usage.memory < 1 << 31
        assert usage.memory_limit == sample_vm().memory
        assert usage.uptime >= 0
        assert usage.status == "paused"  # it was started with -S
        qemu.kill()
        qemu.wait(PATIENCE)
        assert proportional_memory(qemu.pid) == 0


# --- processor use, with time and QEMU made up


class FakeQemu:
    """What psutil tells of process 7: it has used ``used`` seconds."""

    used = 0.0

    def __init__(self, _pid: int) -> None:
        pass

    def oneshot(self) -> Any:
        return contextlib.nullcontext()

    def cpu_times(self) -> Any:
        return types.SimpleNamespace(user=FakeQemu.used * 0.75, system=FakeQemu.used * 0.25)

    def create_time(self) -> float:
        return 100.0


def test_processor_use_is_that_since_the_look_before(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(service, "time", types.SimpleNamespace(monotonic=lambda: clock[0], time=lambda: 160.0))
    monkeypatch.setattr(service.psutil, "Process", FakeQemu)
    monkeypatch.setattr(service.process, "runs_vm", lambda pid, uuid: (pid, uuid) == (7, UUID))
    monkeypatch.setattr(service, "proportional_memory", lambda _pid: 42)
    seen = Observation("web", Status.RUNNING, vm=sample_vm(), run=sample_run(pid=7))
    monkeypatch.setattr(service, "list_vms", lambda _ctx: [seen])
    sampler = Sampler(ctx)
    found = []
    for later, used in ((0, 5.0), (2, 6.0), (4, 14.0), (1, 14.0)):
        clock[0] += later
        FakeQemu.used = used
        (usage,) = sampler.sample()
        found.append(usage.cpu)
        assert (usage.memory, usage.memory_limit, usage.uptime) == (42, sample_vm().memory, 60.0)
    assert found == [0.0, 50.0, 200.0, 0.0]


def test_a_vm_that_was_not_there_before_has_used_nothing_yet(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service.psutil, "Process", FakeQemu)
    monkeypatch.setattr(service.process, "runs_vm", lambda _pid, _uuid: True)
    monkeypatch.setattr(service, "proportional_memory", lambda _pid: 42)
    seen = Observation("web", Status.RUNNING, vm=sample_vm(), run=sample_run(pid=7))
    looks = iter([[], [seen]])
    monkeypatch.setattr(service, "list_vms", lambda _ctx: next(looks))
    FakeQemu.used = 1000.0
    sampler = Sampler(ctx)
    assert sampler.sample() == []
    assert [usage.cpu for usage in sampler.sample()] == [0.0]


# --- proportional memory


def test_shared_pages_count_in_parts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    rollup = (
        "55d0-7ffe ---p 00000000 00:00 0    [rollup]\n"
        "Rss:               20480 kB\n"
        "Pss:               10240 kB\n"
        "Pss_Anon:           9000 kB\n"
    )
    monkeypatch.setattr(Path, "read_text", lambda self, **_: rollup if str(self) == "/proc/7/smaps_rollup" else "")
    assert proportional_memory(7) == 10 * MIB


def test_a_living_process_takes_some() -> None:
    assert 0 < proportional_memory(os.getpid()) < 1 << 34


def test_resident_memory_where_nothing_better_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> str:
        raise PermissionError

    monkeypatch.setattr(Path, "read_text", refuse)
    assert proportional_memory(os.getpid()) > MIB


def test_a_process_that_is_gone_takes_nothing() -> None:
    with Child("import sys; sys.stdin.read()") as child:
        child.let_go()
        assert proportional_memory(child.pid) == 0


def test_an_ended_vm_with_a_record_takes_nothing(ctx: Context) -> None:
    with alive(ctx):
        pass
    (usage,) = stats(ctx, interval=0)
    assert (usage.memory, usage.uptime) == (0, 0)
