from __future__ import annotations

import os
from contextlib import ExitStack

import pytest

from appcat.errors import InvalidInput, NotFound
from appcat.model.run import ExitCause
from appcat.model.status import Observation, Status
from appcat.services import observe
from appcat.services.context import Context
from appcat.store import locks
from tests.unit.support.fake_peer import Conversation, FakePeer, qemu_says
from tests.unit.support.processes import holding
from tests.unit.support.samples import sample_exit, sample_run, sample_vm
from tests.unit.support.vms import add_vm, alive, lock_of_life

AT_ONCE = 0.05


def test_empty_home_has_an_empty_list(ctx: Context) -> None:
    assert observe.list_vms(ctx) == []


@pytest.mark.parametrize(("name", "error"), [("web", NotFound), ("../x", InvalidInput)])
def test_vm_that_is_not_there_cannot_be_shown(ctx: Context, name: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        observe.show(ctx, name)


def test_vm_without_a_qemu_is_stopped_and_says_how_it_ended(ctx: Context) -> None:
    vm = add_vm(ctx)
    assert observe.show(ctx, "web") == Observation("web", Status.STOPPED, vm=vm)
    ctx.store.record_exit("web", sample_exit(ExitCause.REQUESTED))
    assert observe.show(ctx, "web").last_exit == sample_exit(ExitCause.REQUESTED)


@pytest.mark.parametrize(
    ("answer", "status", "detail"),
    [
        ("running", Status.RUNNING, ""),
        ("paused", Status.PAUSED, ""),
        ("prelaunch", Status.PAUSED, "prelaunch"),
        ("io-error", Status.PAUSED, "io-error"),
    ],
)
def test_living_qemu_is_asked(ctx: Context, answer: str, status: Status, detail: str) -> None:
    with alive(ctx) as vm, FakePeer(ctx.layout.runtime(vm.uuid).status, qemu_says(answer)):
        seen = observe.show(ctx, "web")
    assert seen == Observation("web", status, detail, vm, sample_run())


def test_vm_under_work_is_busy_with_the_verb(ctx: Context) -> None:
    add_vm(ctx)
    with holding(ctx.layout.vm("web").op_lock, "clone"):
        seen = observe.show(ctx, "web")
    assert (seen.status, seen.detail) == (Status.BUSY, "clone")


def test_silent_qemu_is_unresponsive(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observe, "MONITOR_PATIENCE", AT_ONCE)
    with alive(ctx) as vm, FakePeer(ctx.layout.runtime(vm.uuid).status, Conversation.wait_for_hang_up):
        seen = observe.show(ctx, "web")
    assert (seen.status, seen.detail) == (Status.UNRESPONSIVE, "QEMU's monitor does not answer")


def test_living_qemu_without_its_socket_is_unresponsive(ctx: Context) -> None:
    with alive(ctx):
        assert observe.show(ctx, "web").status is Status.UNRESPONSIVE


def test_qemu_that_ends_while_it_is_asked_is_stopped(ctx: Context) -> None:
    vm = add_vm(ctx, run=sample_run())
    with lock_of_life(ctx, "web") as descriptor:

        def end(peer: Conversation) -> None:
            peer.greet()
            peer.receive()
            os.close(descriptor)

        with FakePeer(ctx.layout.runtime(vm.uuid).status, end):
            assert observe.show(ctx, "web").status is Status.STOPPED


def test_look_that_meets_the_start_of_a_command_is_busy(ctx: Context) -> None:
    with alive(ctx) as vm, ExitStack() as work:

        def hang_up_under_work(_peer: Conversation) -> None:
            work.enter_context(locks.hold(ctx.layout.vm("web").op_lock, "kill"))

        with FakePeer(ctx.layout.runtime(vm.uuid).status, hang_up_under_work):
            seen = observe.show(ctx, "web")
    assert (seen.status, seen.detail) == (Status.BUSY, "kill")


def test_who_looks_at_the_same_time_waits_for_the_monitor(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observe, "STATUS_WAIT", AT_ONCE)
    with alive(ctx), holding(ctx.layout.vm("web").status_lock, "look"):
        seen = observe.show(ctx, "web")
    assert seen.status is Status.UNRESPONSIVE
    assert "busy: look" in seen.detail


def test_damaged_vm_is_listed_as_broken_beside_the_sound_ones(ctx: Context) -> None:
    for name in ("app", "db", "web"):
        add_vm(ctx, sample_vm(name))
    ctx.layout.vm("db").spec.write_text("{")
    seen = {each.name: each for each in observe.list_vms(ctx)}
    assert {name: each.status for name, each in seen.items()} == {
        "app": Status.STOPPED,
        "db": Status.BROKEN,
        "web": Status.STOPPED,
    }
    assert seen["db"].detail.startswith("vm.json is not JSON")
    assert observe.show(ctx, "db") == seen["db"]


def test_damaged_vm_whose_qemu_lives_says_so(ctx: Context) -> None:
    with alive(ctx):
        ctx.layout.vm("web").spec.unlink()
        seen = observe.show(ctx, "web")
    assert (seen.status, seen.detail) == (Status.BROKEN, "vm.json is missing; its QEMU still runs")
    assert seen.run == sample_run()


def test_record_of_an_earlier_boot_is_a_vm_that_the_host_took_down(ctx: Context) -> None:
    add_vm(ctx, run=sample_run(boot_id="an earlier boot", pid=1))
    seen = observe.show(ctx, "web")
    assert seen.status is Status.STOPPED
    assert seen.last_exit
    assert seen.last_exit.cause is ExitCause.HOST_RESTARTED


@pytest.mark.parametrize(
    ("log", "cause", "reason"),
    [
        (None, ExitCause.UNKNOWN, "QEMU ended without a word"),
        (b"", ExitCause.UNKNOWN, "QEMU ended without a word"),
        (b"qemu: warning: harmless\n\n", ExitCause.UNKNOWN, "QEMU ended without a word"),
        (b"first\nqemu: no such device\n", ExitCause.FAILED, "QEMU ended: qemu: no such device"),
        (b"qemu: terminating on signal 15 from pid 7 (kill)\n", ExitCause.KILLED, "QEMU was ended from outside"),
        (b"x" * 100_000 + b"\nthe end\xff\n", ExitCause.FAILED, "QEMU ended: the end"),
    ],
)
def test_last_words_of_a_qemu_explain_its_end(ctx: Context, log: bytes | None, cause: ExitCause, reason: str) -> None:
    add_vm(ctx, run=sample_run())
    if log is not None:
        ctx.layout.vm("web").qemu_log.write_bytes(log)
    end = observe.explain_end(ctx, "web", sample_run())
    assert end.cause is cause
    assert end.reason.startswith(reason)


def test_looking_changes_nothing(ctx: Context) -> None:
    add_vm(ctx, run=sample_run(boot_id="an earlier boot"))
    before = ctx.layout.vm("web").run.read_bytes()
    observe.list_vms(ctx)
    assert ctx.layout.vm("web").run.read_bytes() == before
    assert not ctx.layout.vm("web").exit.exists()
