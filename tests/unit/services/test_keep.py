from __future__ import annotations

import contextlib
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appcat.errors import QemuError
from appcat.model.run import Exit, ExitCause
from appcat.model.vm import RestartPolicy
from appcat.qemu import process
from appcat.services import keep
from appcat.services.context import Context
from appcat.services.keep import Keeper, Watch, bound_log, diagnose, restart_delay, wants_restart
from appcat.store import locks
from tests.unit.support.fake_peer import Conversation, FakePeer
from tests.unit.support.processes import PATIENCE
from tests.unit.support.qemu import connect, idle_argv, needs_qemu, spawned
from tests.unit.support.samples import UUID, sample_exit, sample_run, sample_vm
from tests.unit.support.vms import add_vm, alive, lock_of_life

RELEASE = tuple(int(number) for number in re.findall(r"\d+", platform.release())[:2])
kernel_tells_exit_status = pytest.mark.skipif(
    sys.platform != "linux" or RELEASE < (6, 15), reason="only Linux 6.15 and later tell a stranger's exit status"
)


@pytest.mark.parametrize(
    ("cause", "restarted_by"),
    [
        (ExitCause.REQUESTED, set()),
        (ExitCause.HOST_RESTARTED, set()),
        (ExitCause.GUEST, {RestartPolicy.ALWAYS}),
        (ExitCause.KILLED, {RestartPolicy.ALWAYS, RestartPolicy.ON_FAILURE}),
        (ExitCause.FAILED, {RestartPolicy.ALWAYS, RestartPolicy.ON_FAILURE}),
        (ExitCause.UNKNOWN, {RestartPolicy.ALWAYS, RestartPolicy.ON_FAILURE}),
    ],
)
def test_policy_decides_which_ends_call_for_another_start(cause: ExitCause, restarted_by: set[RestartPolicy]) -> None:
    assert {policy for policy in RestartPolicy if wants_restart(policy, sample_exit(cause))} == restarted_by


def test_restarts_in_a_row_wait_twice_as_long_each_up_to_a_minute() -> None:
    assert [restart_delay(count) for count in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert restart_delay(10_000) == 60


def test_short_log_is_left_alone(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    bound_log(log, 10)
    log.write_bytes(b"x" * 10)
    bound_log(log, 10)
    assert log.read_bytes() == b"x" * 10
    assert not (tmp_path / "console.log.1").exists()


def test_long_log_begins_anew_for_whoever_appends_to_it(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    with log.open("ab", buffering=0) as writer:
        for text in (b"first " * 3, b"second " * 3):
            writer.write(text)
            bound_log(log, 10)
            assert log.read_bytes() == b""
            assert (tmp_path / "console.log.1").read_bytes() == text
        writer.write(b"third")
    assert log.read_bytes() == b"third"


@contextlib.contextmanager
def watched(reason: str) -> Iterator[Watch]:
    """A watch of a process that ended with status 0 and whose event stream gave this reason."""
    child = subprocess.Popen(["true"])
    with process.Handle(child.pid) as handle:
        child.wait()
        yield Watch(sample_run(pid=child.pid), handle, None, reason)


@pytest.mark.parametrize(
    ("reason", "cause", "words"),
    [
        ("guest-shutdown", ExitCause.GUEST, "the guest powered itself off"),
        ("host-signal", ExitCause.KILLED, "QEMU was ended from outside: the last words"),
        ("host-qmp-quit", ExitCause.KILLED, "QEMU was ended from outside: the last words"),
    ],
)
def test_event_stream_knows_best_why_qemu_ended(ctx: Context, reason: str, cause: ExitCause, words: str) -> None:
    add_vm(ctx)
    ctx.layout.vm("web").qemu_log.write_text("the last words\n")
    with watched(reason) as watch:
        end = diagnose(ctx, "web", watch.run, watch)
    assert (end.cause, end.reason) == (cause, words)


@kernel_tells_exit_status
def test_exit_status_comes_next(ctx: Context) -> None:
    add_vm(ctx)
    ctx.layout.vm("web").qemu_log.write_text("the last words\n")
    with watched("") as watch:
        end = diagnose(ctx, "web", watch.run, watch)
    assert (end.cause, end.reason) == (ExitCause.FAILED, "QEMU ended with status 0: the last words")


def test_what_was_seen_of_an_earlier_life_does_not_explain_this_one(ctx: Context) -> None:
    add_vm(ctx)
    with watched("guest-shutdown") as watch:
        end = diagnose(ctx, "web", sample_run(pid=watch.handle.pid + 1), watch)
    assert end.cause is ExitCause.UNKNOWN


@pytest.fixture
def keeper(ctx: Context) -> Iterator[Keeper]:
    keeper = Keeper(ctx)
    yield keeper
    for watch in keeper.watches.values():
        watch.close()


def recorded_end(ctx: Context) -> Exit:
    """How the vm ended, once its record is closed."""
    end = ctx.store.load_exit("web")
    assert end is not None
    assert ctx.store.load_run("web") is None
    return end


@contextlib.contextmanager
def living_qemu(ctx: Context) -> Iterator[subprocess.Popen[bytes]]:
    """The vm ``web`` as a real QEMU with an event stream, recorded as ``start`` leaves it."""
    vm = add_vm(ctx, run=sample_run())
    paths, runtime = ctx.layout.vm("web"), ctx.layout.runtime(vm.uuid)
    argv = idle_argv(UUID, runtime.monitor, runtime.events)
    with contextlib.ExitStack() as stack:
        with lock_of_life(ctx, "web") as lock:
            qemu = stack.enter_context(spawned(argv, paths.qemu_log, [lock]))
        ctx.store.save_run("web", sample_run(pid=qemu.pid, pid_started=process.started_at(qemu.pid)))
        connect(runtime.events).close()
        yield qemu


def watch_until_connected(keeper: Keeper) -> None:
    keeper.tick()
    assert keeper.watches["web"].events is not None


@needs_qemu
@kernel_tells_exit_status
def test_kill_from_outside_is_noticed(ctx: Context, keeper: Keeper) -> None:
    with living_qemu(ctx) as qemu:
        watch_until_connected(keeper)
        qemu.kill()
        qemu.wait(PATIENCE)
        keeper.tick()
    end = recorded_end(ctx)
    assert (end.cause, end.reason) == (ExitCause.KILLED, "QEMU was killed by SIGKILL")
    assert keeper.watches == {}


@needs_qemu
@kernel_tells_exit_status
def test_kill_of_a_qemu_that_the_keeper_has_started_is_noticed(ctx: Context, keeper: Keeper) -> None:
    with living_qemu(ctx) as qemu:
        watch_until_connected(keeper)
        qemu.kill()
        assert keeper.watches["web"].handle.wait(PATIENCE)
        keeper.tick()
        assert recorded_end(ctx).cause is ExitCause.KILLED


@needs_qemu
def test_qemu_told_to_quit_by_somebody_else_is_noticed(ctx: Context, keeper: Keeper) -> None:
    with living_qemu(ctx) as qemu:
        watch_until_connected(keeper)
        with connect(ctx.layout.runtime(UUID).monitor) as monitor:
            monitor.execute("quit")
        qemu.wait(PATIENCE)
        keeper.tick()
    end = recorded_end(ctx)
    assert (end.cause, end.reason) == (ExitCause.KILLED, "QEMU was ended from outside")


@needs_qemu
def test_signal_is_told_with_qemus_own_words(ctx: Context, keeper: Keeper) -> None:
    with living_qemu(ctx) as qemu:
        watch_until_connected(keeper)
        qemu.terminate()
        qemu.wait(PATIENCE)
        keeper.tick()
    end = recorded_end(ctx)
    assert end.cause is ExitCause.KILLED
    assert "terminating on signal 15" in end.reason


def test_guest_that_powers_itself_off_is_noticed(ctx: Context, keeper: Keeper, tmp_path: Path) -> None:
    def power_off(peer: Conversation) -> None:
        peer.greet()
        peer.send({"event": "SHUTDOWN", "data": {"guest": True, "reason": "guest-shutdown"}})
        peer.wait_for_hang_up()

    vm = add_vm(ctx, run=sample_run())
    with FakePeer(ctx.layout.runtime(vm.uuid).events, power_off):
        with lock_of_life(ctx, "web") as lock, spawned(["sleep", "60"], tmp_path / "log", [lock]) as child:
            ctx.store.save_run("web", sample_run(pid=child.pid))
            watch_until_connected(keeper)
        keeper.tick()
    assert recorded_end(ctx).cause is ExitCause.GUEST


@needs_qemu
def test_process_id_that_a_killed_start_left_out_is_filled_in(ctx: Context, keeper: Keeper) -> None:
    with living_qemu(ctx) as qemu:
        ctx.store.save_run("web", sample_run())
        keeper.tick()
        run = ctx.store.load_run("web")
        assert run is not None
        assert run.pid == qemu.pid == keeper.watches["web"].handle.pid


def test_record_of_an_earlier_boot_is_closed(ctx: Context, keeper: Keeper) -> None:
    add_vm(ctx, run=sample_run(boot_id="an earlier boot"))
    keeper.tick()
    assert recorded_end(ctx).cause is ExitCause.HOST_RESTARTED


def test_vm_under_work_is_left_to_who_works_on_it(ctx: Context, keeper: Keeper) -> None:
    add_vm(ctx, run=sample_run())
    with locks.hold(ctx.layout.vm("web").op_lock, "stop"):
        keeper.tick()
        assert ctx.store.load_run("web") == sample_run()


def test_damaged_vm_does_not_keep_the_others_from_being_looked_after(ctx: Context, keeper: Keeper) -> None:
    add_vm(ctx, sample_vm("app"))
    ctx.layout.vm("app").spec.write_text("damaged")
    add_vm(ctx, run=sample_run(boot_id="an earlier boot"))
    keeper.tick()
    assert recorded_end(ctx).cause is ExitCause.HOST_RESTARTED


def test_console_log_of_a_living_vm_is_bounded(ctx: Context, keeper: Keeper) -> None:
    with alive(ctx):
        log = ctx.layout.vm("web").console_log
        log.write_bytes(b"x" * (keep.CONSOLE_LIMIT + 1))
        keeper.tick()
        assert log.stat().st_size == 0


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the vms that the keeper starts; really starting one needs an image (see ``tests/vm``)."""
    started: list[str] = []

    def start(_ctx: Context, name: str, **_options: object) -> None:
        started.append(name)
        if name.startswith("bad"):
            raise QemuError("does not start")

    monkeypatch.setattr(keep, "start", start)
    return started


def crashed(ctx: Context, name: str, policy: RestartPolicy = RestartPolicy.ON_FAILURE) -> None:
    add_vm(ctx, sample_vm(name, restart=policy))
    ctx.store.record_exit(name, sample_exit(ExitCause.KILLED))


def let_time_pass(keeper: Keeper) -> None:
    for backoff in keeper.backoffs.values():
        backoff.due = time.monotonic()


def test_crashed_vm_is_restarted_when_its_time_has_come(ctx: Context, keeper: Keeper, starts: list[str]) -> None:
    crashed(ctx, "web")
    crashed(ctx, "db", RestartPolicy.NO)
    keeper.tick()
    assert starts == []
    let_time_pass(keeper)
    keeper.tick()
    assert starts == ["web"]


def test_vm_that_does_not_start_is_tried_at_growing_intervals(ctx: Context, keeper: Keeper, starts: list[str]) -> None:
    crashed(ctx, "bad")
    counts = []
    for _ in range(3):
        keeper.tick()
        counts.append(keeper.backoffs["bad"].count)
        let_time_pass(keeper)
        keeper.tick()
    assert starts == ["bad"] * 3
    assert counts[1:] == [counts[0] + 1, counts[0] + 2]


def test_deleted_vm_is_forgotten(ctx: Context, keeper: Keeper, starts: list[str]) -> None:
    crashed(ctx, "web")
    keeper.tick()
    ctx.store.remove("web")
    keeper.tick()
    assert keeper.backoffs == {}


def test_autostart_vms_come_back_once_per_boot(
    ctx: Context, starts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, wanted in (("bad", True), ("db", True), ("web", False)):
        add_vm(ctx, sample_vm(name, autostart=wanted))
    with alive(ctx, sample_vm("running", autostart=True)):
        assert keep.autostart(ctx) == ["db"]
    assert keep.autostart(ctx) == []
    assert starts == ["bad", "db"]
    monkeypatch.setattr(keep, "boot_id", lambda: "the next boot")
    assert keep.autostart(ctx) == ["db", "running"]


def test_there_is_one_keeper_to_a_home(ctx: Context) -> None:
    with locks.hold(ctx.layout.keeper_lock, "keep"):
        assert keep.keep(ctx) is False


def test_keeper_ends_when_there_is_nothing_to_keep(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keep, "IDLE_EXIT", 0.0)
    monkeypatch.setattr(keep, "TICK", 0.01)
    assert keep.keep(ctx) is True
    assert not locks.is_held(ctx.layout.keeper_lock)


def test_keeper_ends_with_its_home(ctx: Context, keeper: Keeper) -> None:
    shutil.rmtree(ctx.layout.home)
    keeper.serve = True
    keeper.run()
    assert not ctx.layout.home.exists()
