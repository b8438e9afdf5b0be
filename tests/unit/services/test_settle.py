from __future__ import annotations

from appcat.model.run import ExitCause
from appcat.services.context import Context
from appcat.services.settle import adopt, settle
from tests.unit.support.qemu import idle_argv, needs_qemu, spawned
from tests.unit.support.samples import UUID, sample_exit, sample_run
from tests.unit.support.vms import add_vm, alive, lock_of_life


def test_living_vm_is_left_alone(ctx: Context) -> None:
    with alive(ctx) as vm:
        settle(ctx, "web")
        assert ctx.store.load_run("web") == sample_run()
        assert ctx.layout.runtime(vm.uuid).root.is_dir()


def test_ended_vm_gets_its_record_closed_and_its_sockets_swept(ctx: Context) -> None:
    vm = add_vm(ctx, run=sample_run(boot_id="an earlier boot"))
    settle(ctx, "web")
    last = ctx.store.load_exit("web")
    assert last is not None
    assert last.cause is ExitCause.HOST_RESTARTED
    assert ctx.store.load_run("web") is None
    assert not ctx.layout.runtime(vm.uuid).root.exists()


def test_who_knows_the_reason_tells_it(ctx: Context) -> None:
    add_vm(ctx, run=sample_run())
    settle(ctx, "web", sample_exit(ExitCause.REQUESTED))
    assert ctx.store.load_exit("web") == sample_exit(ExitCause.REQUESTED)


def test_settling_twice_keeps_the_first_reason(ctx: Context) -> None:
    add_vm(ctx, run=sample_run())
    settle(ctx, "web", sample_exit(ExitCause.GUEST))
    settle(ctx, "web", sample_exit(ExitCause.KILLED))
    assert ctx.store.load_exit("web") == sample_exit(ExitCause.GUEST)


def test_nobody_to_adopt_when_stopped(ctx: Context) -> None:
    add_vm(ctx, run=sample_run(pid=1))
    assert adopt(ctx, "web") is None


@needs_qemu
def test_qemu_whose_process_id_was_lost_is_found_again(ctx: Context) -> None:
    add_vm(ctx, run=sample_run())
    with (
        lock_of_life(ctx, "web") as lock,
        spawned(idle_argv(UUID), ctx.layout.vm("web").qemu_log, [lock]) as qemu,
    ):
        run = adopt(ctx, "web")
        assert run is not None
        assert run.pid == qemu.pid
        assert run.pid_started is not None
        assert ctx.store.load_run("web") == run
        assert adopt(ctx, "web") == run


@needs_qemu
def test_process_id_that_is_somebody_elses_by_now_is_corrected(ctx: Context) -> None:
    add_vm(ctx, run=sample_run(pid=1))
    with (
        lock_of_life(ctx, "web") as lock,
        spawned(idle_argv(UUID), ctx.layout.vm("web").qemu_log, [lock]) as qemu,
    ):
        run = adopt(ctx, "web")
        assert run is not None
        assert run.pid == qemu.pid
