from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from appcat.model.vm import Vm
from appcat.services import herald as module
from appcat.services.context import Context
from appcat.services.herald import Herald, delay, mark
from appcat.services.keep import Keeper
from appcat.services.neighbours import network_statements, note_told, told
from tests.unit.support.fake_guest import FakeGuest
from tests.unit.support.fake_peer import Conversation, FakePeer
from tests.unit.support.processes import eventually
from tests.unit.support.samples import on, sample_network, sample_run, sample_vm
from tests.unit.support.vms import add_vm, alive

WEB = sample_vm("web", uuid="10000000-0000-4000-8000-000000000000", networks=(on("lab", "10.77.0.2"),))
DB = sample_vm("db", uuid="20000000-0000-4000-8000-000000000000", networks=(on("lab", "10.77.0.3"),))


@pytest.fixture
def herald(ctx: Context) -> Herald:
    ctx.networks.save(sample_network())
    return Herald(ctx)


@contextlib.contextmanager
def guest(ctx: Context, vm: Vm, answer: str = "ok") -> Iterator[FakeGuest]:
    with alive(ctx, vm), FakeGuest(ctx.layout.runtime(vm.uuid).guest, answer) as talker:
        yield talker


def rounds(herald: Herald, *running: str, until: Callable[[], object]) -> None:
    """Ticks until something is so."""

    def tick() -> object:
        herald.tick(running)
        return until()

    eventually(tick)


def settle(herald: Herald, *running: str) -> None:
    """Until nobody is being told any more."""
    herald.tick(running)
    rounds(herald, *running, until=lambda: not herald.errands)


def test_a_guest_that_is_behind_is_told_once(ctx: Context, herald: Herald) -> None:
    with guest(ctx, WEB) as web:
        rounds(herald, "web", until=lambda: told(ctx, WEB))
        settle(herald, "web")
        settle(herald, "web")
        assert web.told == [network_statements(ctx, WEB)]
        add_vm(ctx, DB)
        rounds(herald, "web", until=lambda: len(web.told) == 2)
        settle(herald, "web")
        assert web.told[1:] == [network_statements(ctx, WEB)]


def test_a_guest_that_knows_is_left_alone(ctx: Context, herald: Herald) -> None:
    with guest(ctx, WEB) as web:
        note_told(ctx, WEB, network_statements(ctx, WEB))
        settle(herald, "web")
        assert web.told == []


def test_a_vm_that_never_was_on_a_network_is_left_alone_and_one_that_was_is_told(ctx: Context, herald: Herald) -> None:
    lone = sample_vm("lone")
    with guest(ctx, lone) as talker:
        settle(herald, "lone")
        assert talker.told == []
        note_told(ctx, lone, ["something else"])
        rounds(herald, "lone", until=lambda: talker.told)
        settle(herald, "lone")
        assert talker.told == [network_statements(ctx, lone)]


def test_a_clone_that_is_not_itself_yet_is_left_alone(ctx: Context, herald: Herald) -> None:
    with guest(ctx, WEB) as web:
        ctx.store.save_run("web", sample_run(begun=False))
        settle(herald, "web")
        assert web.told == []
        ctx.store.save_run("web", sample_run())
        rounds(herald, "web", until=lambda: web.told)


def test_a_guest_that_does_not_answer_holds_nobody_up_and_is_tried_less_and_less_often(
    ctx: Context, herald: Herald, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.2)
    with guest(ctx, WEB, "") as web, guest(ctx, DB) as db:
        herald.tick(["web", "db"])
        rounds(herald, "web", "db", until=lambda: told(ctx, DB))
        settle(herald, "web", "db")
        trial = herald.trials[WEB.uuid]
        assert (trial.count, len(web.told), len(db.told)) == (1, 1, 1)
        assert trial.due > time.monotonic()
        settle(herald, "web", "db")
        assert len(web.told) == 1
        trial.due = time.monotonic()
        settle(herald, "web", "db")
        assert (herald.trials[WEB.uuid].count, len(web.told)) == (2, 2)
        web.answer = "ok"
        herald.trials[WEB.uuid].due = time.monotonic()
        settle(herald, "web", "db")
        assert (herald.trials, bool(told(ctx, WEB))) == ({}, True)


def test_delays_double_up_to_a_minute() -> None:
    assert [delay(count) for count in range(7)] == [2, 4, 8, 16, 32, 60, 60]
    assert delay(10_000) == 60


def test_a_few_at_a_time(ctx: Context, herald: Herald, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.5)
    vms = [
        sample_vm(f"n{number}", uuid=f"{number}{WEB.uuid[1:]}", networks=(on("lab", f"10.77.0.{number}"),))
        for number in range(2, 9)
    ]
    with contextlib.ExitStack() as stack:
        for vm in vms:
            stack.enter_context(guest(ctx, vm, ""))
        names = [vm.name for vm in vms]
        herald.tick(names)
        assert len(herald.errands) == module.TELLERS
        rounds(herald, *names, until=lambda: len(herald.trials) == len(vms))


def test_files_that_have_not_changed_are_not_read_again(
    ctx: Context, herald: Herald, monkeypatch: pytest.MonkeyPatch
) -> None:
    for vm in (WEB, DB):
        add_vm(ctx, vm)
        make_old(ctx.layout.vm(vm.name).spec)
    make_old(ctx.layout.network("lab"))
    reads: list[str] = []
    load = type(ctx.store).load
    monkeypatch.setattr(type(ctx.store), "load", lambda store, name: (reads.append(name), load(store, name))[1])
    herald.tick(["web", "db"])
    assert sorted(reads) == ["db", "web"]
    herald.tick(["web", "db"])
    assert sorted(reads) == ["db", "web"]
    ctx.store.save(sample_vm("db", uuid=DB.uuid))
    herald.tick(["web", "db"])
    assert reads[2:] == ["db"]


def make_old(path: Path) -> None:
    then = time.time() - 60
    os.utime(path, (then, then))


def test_a_file_that_is_young_is_no_proof_of_anything(tmp_path: Path) -> None:
    path = tmp_path / "x"
    assert mark(path) == ()
    path.touch()
    assert mark(path) is None
    make_old(path)
    assert mark(path) == mark(path) != ()


def test_a_guest_that_boots_again_is_told_again(ctx: Context, herald: Herald) -> None:
    with guest(ctx, WEB) as web:
        rounds(herald, "web", until=lambda: told(ctx, WEB))
        herald.was_reset(WEB.uuid)
        assert told(ctx, WEB) == ""
        rounds(herald, "web", until=lambda: len(web.told) == 2)
        settle(herald, "web")
        assert told(ctx, WEB)


def test_damaged_network_stops_nothing(ctx: Context, herald: Herald) -> None:
    with guest(ctx, WEB) as web:
        ctx.layout.network("lab").write_text("")
        settle(herald, "web")
        assert web.told == []


def test_vms_that_are_gone_are_forgotten(ctx: Context, herald: Herald, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    with guest(ctx, WEB, "error"):
        rounds(herald, "web", until=lambda: herald.trials)
    settle(herald)
    assert herald.trials == {}


@pytest.mark.parametrize(("backend", "started"), [("hub", True), ("bridge", False), ("", False)])
def test_a_hub_that_vms_need_is_started(
    ctx: Context, herald: Herald, monkeypatch: pytest.MonkeyPatch, backend: str, started: bool
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(module.client, "ensure", asked.append)
    with alive(ctx, WEB):
        note_told(ctx, WEB, network_statements(ctx, WEB))
        herald.tick(["web"])
        assert asked == []
        ctx.store.save_run("web", sample_run(backend=backend))
        herald.tick(["web"])
    assert (asked == [ctx.layout]) is started


def test_keeper_tells_and_hears_of_a_reset(ctx: Context) -> None:
    """The event stream says that the guest boots again."""
    ctx.networks.save(sample_network())
    let_go: list[bool] = []

    def reset(peer: Conversation) -> None:
        peer.greet()
        eventually(lambda: let_go)
        peer.send({"event": "RESET", "data": {"guest": True, "reason": "guest-reset"}})
        peer.wait_for_hang_up()

    keeper = Keeper(ctx)
    with guest(ctx, WEB) as web:
        ctx.store.save_run("web", sample_run(uuid=WEB.uuid, pid=os.getpid()))
        with FakePeer(ctx.layout.runtime(WEB.uuid).events, reset):

            def told_so_often(count: int) -> Callable[[], object]:
                def tick() -> object:
                    keeper.tick()
                    for watch in keeper.watches.values():
                        keeper._drain(watch)
                    return len(web.told) == count

                return tick

            eventually(told_so_often(1))
            let_go.append(True)
            eventually(told_so_often(2))
            for watch in keeper.watches.values():
                watch.close()
