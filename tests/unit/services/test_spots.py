"""Where vms are given addresses and ports; the sockets are real, on addresses of the test's own."""

from __future__ import annotations

import contextlib
import socket
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from appcat.errors import PortInUse
from appcat.model.host import System
from appcat.model.loopback import CLAIM_PORTS, candidates, has_own_addresses
from appcat.model.port import OWN, PortForward, own_forward, parse_forward
from appcat.model.vm import Vm
from appcat.services import spots
from appcat.services.context import Context
from appcat.services.spots import Spots, claim_port, moved, settled
from tests.unit.support.samples import OTHER_UUID, sample_vm
from tests.unit.support.vms import add_vm

pytestmark = pytest.mark.skipif(not has_own_addresses(spots.this_system()), reason="no own addresses on this system")

# Another one in each process: tests that run at the same time must not be in each other's way.
MINE = str(uuid.uuid4())
FIRST, SECOND, THIRD = (address for address, _ in zip(candidates(uuid.UUID(MINE)), range(3), strict=False))
CLAIM = CLAIM_PORTS[0]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spots, "LEAVING_PATIENCE", 0.1)


@contextlib.contextmanager
def somebody_at(address: str, port: int = CLAIM) -> Iterator[None]:
    """A running vm of another home, or a program of the host."""
    with socket.create_server((address, port)):
        yield


def on_macos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spots, "this_system", lambda: System.MACOS)


def mine(name: str = "web", **changes: Any) -> Vm:
    return sample_vm(name, uuid=MINE, **changes)


def spot(vm: Vm) -> tuple[str, int]:
    return vm.address, vm.ssh_port


def test_only_linux_has_addresses_to_give() -> None:
    assert [system for system in System if has_own_addresses(system)] == [System.LINUX]


def test_every_address_comes_once_and_can_be_one() -> None:
    found = list(candidates(uuid.UUID(MINE)))
    assert len(found) == len(set(found)) == 256 * 254
    parts = {tuple(map(int, address.split("."))) for address in found}
    assert {part[:2] for part in parts} == {(127, 77)}
    assert {part[3] for part in parts} == set(range(1, 255))
    assert next(candidates(uuid.UUID(OTHER_UUID))) != found[0]


def test_first_candidate_is_given(ctx: Context) -> None:
    assert spot(Spots(ctx).give(mine())) == (FIRST, CLAIM)


def test_no_two_vms_of_a_home_are_given_the_same(ctx: Context) -> None:
    add_vm(ctx, sample_vm("other", address=FIRST, uuid=OTHER_UUID))
    given = Spots(ctx)
    assert spot(given.give(mine())) == (SECOND, CLAIM)
    assert spot(given.give(mine("third"))) == (THIRD, CLAIM)


def test_a_broken_vm_keeps_nothing(ctx: Context) -> None:
    add_vm(ctx, sample_vm("other", address=FIRST, uuid=OTHER_UUID))
    ctx.layout.vm("other").spec.write_text("{")
    assert Spots(ctx).give(mine()).address == FIRST


@pytest.mark.parametrize("port", [CLAIM_PORTS[0], CLAIM_PORTS[1], CLAIM_PORTS[-1]])
def test_who_listens_at_an_address_has_it(ctx: Context, port: int) -> None:
    with somebody_at(FIRST, port):
        assert spot(Spots(ctx).give(mine())) == (SECOND, CLAIM)


def test_a_program_that_listens_on_another_port_there_has_not(ctx: Context) -> None:
    with somebody_at(FIRST, 9000):
        assert Spots(ctx).give(mine()).address == FIRST


def taken_everywhere(monkeypatch: pytest.MonkeyPatch, *ports: int) -> None:
    """A program listens on these ports of all addresses; only seemingly, or it would be in the way of real vms."""
    monkeypatch.setattr(spots.Listening, "on_every_address", lambda _table, place: place.host in ports)


def test_who_listens_everywhere_makes_ssh_go_one_port_up(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    vm = add_vm(ctx, mine(address=FIRST, ssh_port=CLAIM))
    with monkeypatch.context() as patch:
        taken_everywhere(patch, CLAIM)
        assert spot(Spots(ctx, but="web").give(mine())) == (FIRST, CLAIM + 1)
        assert spot(settled(ctx, vm)) == (FIRST, CLAIM + 1)
    assert spot(settled(ctx, ctx.store.load("web"))) == (FIRST, CLAIM)
    assert ctx.store.load("web").ssh_port == CLAIM


def test_ssh_does_not_take_what_the_vm_publishes(monkeypatch: pytest.MonkeyPatch) -> None:
    taken_everywhere(monkeypatch, CLAIM)
    assert claim_port(mine(ports=(own_forward(CLAIM + 1), own_forward(24))), spots.Listening()) == CLAIM + 3


def test_no_port_left_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    taken_everywhere(monkeypatch, *CLAIM_PORTS)
    with pytest.raises(PortInUse) as caught:
        claim_port(mine(), spots.Listening())
    assert caught.value.code == "no-address"


def test_no_address_left_is_told(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spots, "candidates", lambda _: iter([FIRST]))
    with somebody_at(FIRST), pytest.raises(PortInUse) as caught:
        Spots(ctx).give(mine())
    assert caught.value.code == "no-address"


# --- at start


def test_a_vm_whose_address_is_free_stays_and_nothing_is_written(ctx: Context) -> None:
    vm = add_vm(ctx, mine(address=FIRST, ssh_port=CLAIM))
    before = ctx.layout.vm("web").spec.stat()
    assert settled(ctx, vm) == vm
    assert ctx.layout.vm("web").spec.stat().st_mtime_ns == before.st_mtime_ns


def test_a_vm_whose_address_somebody_has_moves_and_says_so(ctx: Context) -> None:
    told: list[str] = []
    ctx = ctx.but(progress=lambda step, _done, _total: told.append(step))
    vm = add_vm(ctx, mine(address=FIRST, ssh_port=CLAIM, ports=(own_forward(80),)))
    with somebody_at(FIRST):
        now = settled(ctx, vm)
    assert spot(now) == (SECOND, CLAIM)
    assert ctx.store.load("web") == now
    assert now.ports == vm.ports
    assert f"HostName {SECOND}" in ctx.layout.vm("web").ssh_config.read_text()
    assert told == [f"somebody has {FIRST}:{CLAIM}: web moves to {SECOND}:{CLAIM}"]


def test_an_address_that_comes_free_in_time_is_kept(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """A QEMU that has just ended lets go of its ports a moment after its lock."""
    vm = add_vm(ctx, mine(address=FIRST, ssh_port=CLAIM))
    monkeypatch.setattr(spots, "LEAVING_PATIENCE", 30.0)
    with contextlib.ExitStack() as stack:
        stack.enter_context(somebody_at(FIRST))
        monkeypatch.setattr(spots.time, "sleep", lambda _: stack.close())
        assert settled(ctx, vm) == vm


def test_a_vm_that_was_made_before_there_were_addresses_gets_one(ctx: Context) -> None:
    vm = add_vm(ctx, mine(ssh_port=23456, ports=(PortForward(23457, 80, OWN), parse_forward("8080:80"))))
    now = settled(ctx, vm)
    assert spot(now) == (FIRST, CLAIM)
    assert ctx.store.load("web") == now
    assert now.ports == (own_forward(80), parse_forward("8080:80"))
    assert f"HostName {FIRST}\n  Port {CLAIM}\n" in ctx.layout.vm("web").ssh_config.read_text()


def test_a_claim_that_qemu_could_not_make_leads_elsewhere(ctx: Context) -> None:
    vm = add_vm(ctx, mine(address=FIRST, ssh_port=CLAIM))
    with somebody_at(FIRST):
        assert spot(moved(ctx, vm)) == (SECOND, CLAIM)


# --- where there are no addresses to give


def test_elsewhere_every_published_number_has_a_port_of_127_0_0_1(
    ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_macos(monkeypatch)
    given = Spots(ctx)
    vms = [given.give(mine(name, ports=(own_forward(80), parse_forward("8080:80")))) for name in ("one", "two")]
    assert [vm.address for vm in vms] == ["", ""]
    ports = [port for vm in vms for port in (vm.ssh_port, vm.ports[0].host)]
    assert len(set(ports)) == 4
    assert all(port > 20000 for port in ports)
    assert all(vm.ports[1] == parse_forward("8080:80") for vm in vms)
    assert all(vm.ports[0].places(vm.address)[0].address == "127.0.0.1" for vm in vms)


def test_elsewhere_ports_stay_unless_somebody_has_them(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    on_macos(monkeypatch)
    vm = add_vm(ctx, Spots(ctx).give(mine(ports=(own_forward(80), own_forward(81)))))
    assert settled(ctx, vm) == vm
    with socket.create_server(("127.0.0.1", vm.ports[0].host)):
        now = settled(ctx, vm)
    assert now.ports[0].host != vm.ports[0].host
    assert (now.ports[1], now.ssh_port) == (vm.ports[1], vm.ssh_port)
    assert ctx.store.load("web") == now


def test_elsewhere_ssh_moves_to_another_port(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    on_macos(monkeypatch)
    vm = add_vm(ctx, Spots(ctx).give(mine(ports=(own_forward(80),))))
    now = moved(ctx, vm)
    assert (now.address, now.ports) == ("", vm.ports)
    assert now.ssh_port != vm.ssh_port
    assert f"Port {now.ssh_port}\n" in ctx.layout.vm("web").ssh_config.read_text()
