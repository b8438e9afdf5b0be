from __future__ import annotations

from contextlib import ExitStack

import pytest

from appcat.model.run import ExitCause
from appcat.model.vm import RestartPolicy
from appcat.services.context import Context
from appcat.services.keep import wants_restart
from appcat.services.stop import kill, stop
from tests.unit.support.processes import PATIENCE
from tests.unit.support.qemu import idle_argv, needs_qemu, spawned
from tests.unit.support.samples import UUID, sample_exit, sample_run, sample_vm
from tests.unit.support.vms import add_vm, lock_of_life


def test_stopping_what_is_stopped_says_so(ctx: Context) -> None:
    add_vm(ctx)
    assert stop(ctx, "web") is False
    assert kill(ctx, "web") is False


def test_stopping_what_a_reboot_left_behind_closes_its_record(ctx: Context) -> None:
    add_vm(ctx, run=sample_run(boot_id="an earlier boot"))
    assert stop(ctx, "web") is False
    assert ctx.store.load_run("web") is None


@needs_qemu
@pytest.mark.parametrize("spec", ["sound", "damaged"])
@pytest.mark.parametrize("recorded", ["recorded", "record lost"])
def test_kill_ends_qemu_whatever_the_files_say(ctx: Context, spec: str, recorded: str) -> None:
    add_vm(ctx)
    with ExitStack() as stack:
        with lock_of_life(ctx, "web") as lock:
            qemu = stack.enter_context(spawned(idle_argv(UUID), ctx.layout.vm("web").qemu_log, [lock]))
        if recorded == "recorded":
            ctx.store.save_run("web", sample_run(pid=qemu.pid))
        if spec == "damaged":
            ctx.layout.vm("web").spec.write_text("damaged")
        assert kill(ctx, "web") is True
        assert qemu.wait(PATIENCE) == -9
    assert ctx.store.load_run("web") is None


def waiting_for_its_restart(ctx: Context) -> None:
    add_vm(ctx, sample_vm(restart=RestartPolicy.ALWAYS))
    ctx.store.record_exit("web", sample_exit(ExitCause.FAILED))


def will_be_restarted(ctx: Context) -> bool:
    last = ctx.store.load_exit("web")
    return last is not None and wants_restart(RestartPolicy.ALWAYS, last)


def test_stop_between_two_restarts_calls_the_next_one_off(ctx: Context) -> None:
    waiting_for_its_restart(ctx)
    assert will_be_restarted(ctx)
    stop(ctx, "web")
    assert not will_be_restarted(ctx)


def test_kill_between_two_restarts_calls_the_next_one_off(ctx: Context) -> None:
    waiting_for_its_restart(ctx)
    kill(ctx, "web")
    assert not will_be_restarted(ctx)
