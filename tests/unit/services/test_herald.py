from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator

import pytest

from appcat.model.vm import Vm
from appcat.services import herald as module
from appcat.services.census import Census
from appcat.services.context import Context
from appcat.services.herald import Herald, delay
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
    rounds(herald, *running, until=lambda: not herald.waiting)


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


def test_many_are_told_in_one_round_by_a_few(ctx: Context, herald: Herald, monkeypatch: pytest.MonkeyPatch) -> None:
    vms = [
        sample_vm(f"n{number}", uuid=f"{number:02}{WEB.uuid[2:]}", networks=(on("lab", f"10.77.0.{number}"),))
        for number in range(2, 15)
    ]
    busy: list[int] = []
    real = module.tell

    def slowly(ctx: Context, name: str, patience: float, census: Census) -> bool:
        busy.append(len(herald._tellers))
        time.sleep(0.02)
        return real(ctx, name, patience, census)

    monkeypatch.setattr(module, "tell", slowly)
    with contextlib.ExitStack() as stack:
        guests = [stack.enter_context(guest(ctx, vm)) for vm in vms]
        herald.tick([vm.name for vm in vms])
        eventually(lambda: all(told(ctx, vm) for vm in vms))
        settle(herald, *(vm.name for vm in vms))
        assert [len(one.told) for one in guests] == [1] * len(vms)
    assert max(busy) <= module.TELLERS


def test_whatever_goes_wrong_with_one_it_is_tried_again(
    ctx: Context, herald: Herald, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_arguments: object) -> bool:
        raise RuntimeError("a fault")

    monkeypatch.setattr(module, "tell", fail)
    with guest(ctx, WEB):
        settle(herald, "web")
    assert herald.trials[WEB.uuid].count == 1


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
