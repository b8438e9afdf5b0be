"""Operations: what is recorded of a verb, and how it is called off."""

from __future__ import annotations

import dataclasses
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from appcat import command
from appcat.errors import AppcatError, Busy, Cancelled, CommandError, DeadlineExceeded, NotFound, WrongState
from appcat.model.event import Event
from appcat.model.operation import Operation, OperationState
from appcat.qemu.agent import Agent
from appcat.services import operations as module
from appcat.services.clone import CloneRequest, clone
from appcat.services.context import Context
from appcat.services.create import CreateRequest, create
from appcat.services.events import list_events
from appcat.services.operations import (
    Running,
    cancel,
    give_up,
    list_operations,
    operation,
    prepare,
    show_operation,
    tracked,
    wait_operation,
)
from appcat.services.start import start, wait_ready
from appcat.services.stop import stop
from appcat.services.wait import Until, wait
from appcat.store import locks
from appcat.store.operations import OperationStore
from tests.unit.support.fake_peer import Conversation, FakePeer
from tests.unit.support.processes import Child, eventually
from tests.unit.support.vms import add_vm, alive

State = OperationState


def only(ctx: Context) -> Operation:
    (found,) = list_operations(ctx)
    return found


def told(ctx: Context) -> list[Event]:
    return [event for event in list_events(ctx) if event.kind.startswith("operation.")]


# --- what is recorded


def test_one_that_works_out(ctx: Context) -> None:
    with operation(ctx, "start", ["web"], origin="daemon") as running:
        seen = only(ctx)
        assert (seen.id, seen.state, seen.verb, seen.vms) == (running.id, State.RUNNING, "start", ("web",))
        assert (seen.origin, seen.ended, seen.result) == ("daemon", "", None)
        running.result({"already": False})
    seen = show_operation(ctx, running.id)
    assert (seen.state, seen.result, seen.error) == (State.SUCCEEDED, {"already": False}, None)
    assert seen.created <= seen.ended
    assert [(event.kind, event.vm, event.detail["id"]) for event in told(ctx)] == [
        ("operation.started", "web", seen.id),
        ("operation.ended", "web", seen.id),
    ]
    assert told(ctx)[1].detail["state"] == "succeeded"


@pytest.mark.parametrize(
    ("error", "state", "code"),
    [
        (Busy("web is busy", hint="wait", details="long"), State.FAILED, "busy"),
        (Cancelled("called off"), State.CANCELLED, "cancelled"),
        (KeyboardInterrupt(), State.CANCELLED, "cancelled"),
        (ZeroDivisionError("oh"), State.FAILED, "internal"),
        (OSError(28, "No space left on device"), State.FAILED, "no-space"),
    ],
)
def test_one_that_does_not(ctx: Context, error: BaseException, state: State, code: str) -> None:
    with pytest.raises(type(error)), operation(ctx, "start", ["web"]):
        raise error
    seen = only(ctx)
    assert seen.error is not None
    assert (seen.state, seen.error.code) == (state, code)
    if isinstance(error, AppcatError):
        assert (seen.error.message, seen.error.hint, seen.error.details) == (error.message, error.hint, error.details)
        assert seen.error.exit_code == error.exit_code
        again = seen.error.as_error()
        assert (again.code, again.exit_code, str(again)) == (error.code, error.exit_code, str(error))
    assert told(ctx)[-1].detail["state"] == str(state)


def test_a_failure_that_is_not_raised(ctx: Context) -> None:
    with operation(ctx, "clone", ["a", "b"]) as running:
        running.result({"clones": []})
        running.failed(Busy("b is busy", hint="wait"))
    seen = only(ctx)
    assert seen.error is not None
    assert (seen.state, seen.error.code, seen.result) == (State.FAILED, "busy", {"clones": []})


def test_an_operation_within_is_no_other(ctx: Context) -> None:
    with operation(ctx, "run", ["web"]) as outer:
        with operation(outer.ctx, "create", ["web"]) as inner:
            assert inner.id == outer.id
            inner.result({"not": "the outer one's"})
        assert only(ctx).state is State.RUNNING
        outer.result({"whole": True})
    assert only(ctx).result == {"whole": True}
    assert len(told(ctx)) == 2


def test_progress_is_recorded_and_passed_on(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[str, int, int]] = []
    ctx = dataclasses.replace(ctx, progress=lambda *step: shown.append(step))
    saves: list[Operation] = []
    real = OperationStore.save
    monkeypatch.setattr(OperationStore, "save", lambda self, one: (saves.append(one), real(self, one)))
    with operation(ctx, "build", []) as running:
        for number in range(1000):
            running.ctx.progress("fetching", number, 1000)
        assert len(saves) < 50, "not each is written"
        monkeypatch.setattr(module, "SAVE_EVERY", 0.0)
        running.ctx.check()
        assert (only(ctx).step, only(ctx).done, only(ctx).total) == ("fetching", 999, 1000), "the last one is"
        running.ctx.progress("packing", 0, 1)
    assert only(ctx).step == "packing"
    assert len(shown) == 1001


def test_a_record_that_cannot_be_written_keeps_nobody_from_work(ctx: Context) -> None:
    ctx.layout.operations.write_text("in the way")
    with operation(ctx, "stop", ["web"]) as running:
        running.ctx.progress("stopping", 0, 0)
        running.ctx.check()
        running.result({"changed": True})
    assert ctx.layout.operations.read_text() == "in the way"


def test_a_decorated_function_stays_what_it_is(ctx: Context) -> None:
    @tracked("do", lambda _ctx, name, **_: (name,), lambda number: {"number": number})
    def do(ctx: Context, name: str, *, number: int = 1) -> int:
        """Do it."""
        ctx.progress(f"doing {name}", 0, 0)
        return number

    assert (do.__name__, do.__doc__) == ("do", "Do it.")
    assert do(ctx, "web", number=3) == 3
    assert (only(ctx).verb, only(ctx).vms, only(ctx).result) == ("do", ("web",), {"number": 3})


def test_what_is_not_there_is_refused_before_it_is_an_operation(ctx: Context) -> None:
    for verb in (start, stop):
        with pytest.raises(NotFound):
            verb(ctx, "nobody")
    with pytest.raises(AppcatError):
        create(ctx, CreateRequest("Bad Name"))
    with pytest.raises(NotFound):
        clone(ctx, CloneRequest("nobody", ("copy",)))
    assert list_operations(ctx) == []
    assert list_events(ctx) == []
    assert not ctx.layout.operations.exists()


def test_verbs_are_operations(ctx: Context) -> None:
    add_vm(ctx)
    assert stop(ctx, "web") is False
    assert (only(ctx).verb, only(ctx).result, only(ctx).origin) == ("stop", {"changed": False}, "cli")


def test_states_can_be_chosen(ctx: Context) -> None:
    with operation(ctx, "start", []), operation(ctx, "stop", []):
        assert len(list_operations(ctx, State.RUNNING)) == 2
    assert len(list_operations(ctx, State.RUNNING)) == 0
    assert len(list_operations(ctx, State.SUCCEEDED)) == 2


# --- prepared


def test_one_has_its_id_before_its_work_begins(ctx: Context) -> None:
    prepared = prepare(ctx, "start", ["web"], "daemon")
    assert show_operation(ctx, prepared.id).state is State.RUNNING
    assert prepared.operation.origin == "daemon"
    seen: list[Running] = []

    def work() -> None:
        with prepared.run() as running:
            seen.append(running)

    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
    assert seen[0].id == prepared.id
    assert show_operation(ctx, prepared.id).state is State.SUCCEEDED


def test_one_that_is_called_off_before_it_begins_does_nothing(ctx: Context) -> None:
    prepared = prepare(ctx, "start", ["web"], "daemon")
    cancel(ctx, prepared.id)
    with pytest.raises(Cancelled), prepared.run():
        pytest.fail("it must not begin")
    assert show_operation(ctx, prepared.id).state is State.CANCELLED
    assert show_operation(ctx, prepared.id).cancel_requested


def test_one_whose_work_never_begins(ctx: Context) -> None:
    prepared = prepare(ctx, "start", ["web"])
    prepared.abandon(Busy("too much to do", hint="try again"))
    prepared.abandon(Busy("again", hint="no"))
    seen = only(ctx)
    assert seen.error is not None
    assert (seen.state, seen.error.message) == (State.FAILED, "too much to do")
    assert len(told(ctx)) == 2


def test_an_id_may_be_given(ctx: Context) -> None:
    with operation(ctx, "start", [], id="20261125T221500-7f3a9c") as running:
        assert running.id == "20261125T221500-7f3a9c"
    assert only(ctx).id == running.id


# --- calling off


def test_cancel_is_noticed_at_the_next_look(ctx: Context) -> None:
    with pytest.raises(Cancelled) as caught, operation(ctx, "start", ["web"]) as running:
        running.ctx.check()
        assert cancel(ctx, running.id).cancel_requested
        assert only(ctx).cancel_requested
        with pytest.raises(Cancelled):
            running.ctx.progress("on", 0, 0)
        running.ctx.undisturbed().check()
        running.ctx.undisturbed().progress("tidying up", 0, 0)
        running.ctx.check()
    assert running.id in caught.value.hint
    assert only(ctx).state is State.CANCELLED


def test_what_ended_cannot_be_cancelled(ctx: Context) -> None:
    with operation(ctx, "start", []) as running:
        pass
    with pytest.raises(WrongState) as caught:
        cancel(ctx, running.id)
    assert caught.value.code == "operation-ended"
    with pytest.raises(NotFound):
        cancel(ctx, "20261125T221500-000000")
    assert [path.suffix for path in ctx.layout.operations.iterdir()] == [".json"]


def test_waiting_for_one(ctx: Context) -> None:
    prepared = prepare(ctx, "start", [])
    with pytest.raises(DeadlineExceeded):
        wait_operation(ctx, prepared.id, 0.1)
    timer = threading.Timer(0.1, prepared.abandon, (Busy("no", hint="no"),))
    timer.start()
    assert wait_operation(ctx, prepared.id, 20).state is State.FAILED
    timer.join()


KILLED = """
import sys, pathlib, json
from appcat.settings import Settings
from appcat.services.context import Context
from appcat.services.operations import operation
home = pathlib.Path(sys.argv[1])
ctx = Context(Settings(home, home, pathlib.Path(sys.argv[2]), home))
with operation(ctx, "start", ["web"]) as running:
    print(running.id, flush=True)
    sys.stdin.read()
"""


def test_one_whose_process_is_killed_is_lost(ctx: Context) -> None:
    with Child(KILLED, ctx.layout.home, ctx.settings.runtime) as child:
        identifier = child.read_line()
        assert show_operation(ctx, identifier).state is State.RUNNING
        assert show_operation(ctx, identifier).pid == child.pid
        child.kill()
        seen = wait_operation(ctx, identifier, 20)
    assert (seen.state, seen.ended, seen.error) == (State.LOST, "", None)
    with pytest.raises(WrongState):
        cancel(ctx, identifier)


def test_programs_that_it_starts_do_not_keep_it_alive(ctx: Context) -> None:
    """Such as QEMU, which lives on: only the executing process itself holds the lock."""
    code = KILLED.replace(
        "    sys.stdin.read()", "    import subprocess; subprocess.Popen(['sleep', '60']); sys.stdin.read()"
    )
    with Child(code, ctx.layout.home, ctx.settings.runtime) as child:
        identifier = child.read_line()
        child.kill()
        assert wait_operation(ctx, identifier, 20).state is State.LOST


def test_a_process_that_ends_in_a_hurry_says_so(ctx: Context) -> None:
    prepared = prepare(ctx, "start", [])
    give_up()
    assert show_operation(ctx, prepared.id).state is State.CANCELLED


# --- waits that notice


def cancelled_meanwhile(ctx: Context, work: Any) -> None:
    """``work``, which would fail after a minute in another way, is called off."""
    with pytest.raises(Cancelled), operation(ctx, "test", []) as running:
        timer = threading.Timer(0.2, cancel, (ctx, running.id))
        timer.start()
        try:
            work(running.ctx)
        finally:
            timer.join()


def waits_for_a_lock(ctx: Context) -> None:
    path = ctx.layout.home / "some.lock"
    with locks.hold(path, "be in the way"), locks.hold(path, "wait", wait=60, check=ctx.check):
        pass


def waits_for_a_program(ctx: Context) -> None:
    command.run(["sleep", "60"], check=ctx.check)


def waits_for_a_vm(ctx: Context) -> None:
    add_vm(ctx)
    wait(ctx, "web", Until.RUNNING, 60)


@pytest.mark.parametrize("work", [waits_for_a_lock, waits_for_a_program, waits_for_a_vm])
def test_waits_can_be_called_off(ctx: Context, work: Any) -> None:
    cancelled_meanwhile(ctx, work)


def test_waiting_for_a_guest_can_be_called_off(ctx: Context) -> None:
    silent = Conversation.wait_for_hang_up
    with alive(ctx) as vm, FakePeer(ctx.layout.runtime(vm.uuid).agent, silent, silent):
        cancelled_meanwhile(ctx, lambda inner: wait_ready(inner, vm, 60))
        cancelled_meanwhile(ctx, lambda inner: Agent(ctx.layout.runtime(vm.uuid).agent, 60, inner.check))
        assert not locks.is_held(ctx.layout.vm("web").agent_lock)


def test_stopping_can_be_called_off(ctx: Context) -> None:
    with alive(ctx) as vm, FakePeer(ctx.layout.runtime(vm.uuid).agent, Conversation.wait_for_hang_up):
        cancelled_meanwhile(ctx, lambda inner: stop(inner, "web", timeout=60))
        assert not locks.is_held(ctx.layout.vm("web").op_lock)


def test_a_program_that_is_called_off_is_ended(tmp_path: Path) -> None:
    flag = tmp_path / "pid"

    def check() -> None:
        if flag.exists() and flag.read_text().strip():
            raise Cancelled("enough", hint="none")

    with pytest.raises(Cancelled):
        command.run(["sh", "-c", f"echo $$ > {flag}; exec sleep 60"], check=check)
    pid = int(flag.read_text())
    eventually(lambda: not Path(f"/proc/{pid}").exists())


def test_output_of_a_program_that_is_watched_is_whole() -> None:
    looks: list[int] = []
    script = "for i in 1 2 3; do echo line $i; sleep 0.25; done; exit 0"
    assert command.run(["sh", "-c", script], check=lambda: looks.append(1)) == "line 1\nline 2\nline 3\n"
    assert looks
    with pytest.raises(CommandError):
        command.run(["sleep", "60"], timeout=0.5, check=lambda: None)


def test_contexts_share_what_was_found_out(ctx: Context) -> None:
    store = ctx.store
    assert ctx.but(origin="keeper").store is store
    assert ctx.but(origin="keeper").origin == "keeper"


def test_a_record_is_json_with_a_schema(ctx: Context) -> None:
    with operation(ctx, "start", ["web"]) as running:
        pass
    data = json.loads(ctx.layout.operation(running.id).record.read_text())
    assert (data["schema"], data["id"], data["state"]) == (1, running.id, "succeeded")
