from __future__ import annotations

import base64
import contextlib
import dataclasses
from collections.abc import Iterator

import pytest

from appcat.errors import AppcatError, Busy, DeadlineExceeded, GuestError, NotFound
from appcat.model.vm import Vm
from appcat.services import neighbours
from appcat.services.census import Census
from appcat.services.context import Context
from appcat.services.neighbours import (
    catch_up,
    digest,
    host_lines,
    inform,
    inform_of,
    interface_of,
    network_statements,
    note_told,
    tell,
    told,
)
from appcat.store import locks
from tests.unit.support.fake_guest import FakeGuest
from tests.unit.support.samples import on, sample_network, sample_run, sample_vm
from tests.unit.support.vms import add_vm, alive

WEB = sample_vm("web", uuid="10000000-0000-4000-8000-000000000000", networks=(on("lab", "10.77.0.2"),))
DB = sample_vm("db", uuid="20000000-0000-4000-8000-000000000000", networks=(on("lab", "10.77.0.3", 1),))


@pytest.fixture(autouse=True)
def lab(ctx: Context) -> None:
    ctx.networks.save(sample_network())


# --- what is said


def test_own_line_first_then_the_others_by_name() -> None:
    app = sample_vm("app", networks=(on("lab", "10.77.0.9"),))
    elsewhere = sample_vm("far", networks=(on("other", "10.88.0.2"),))
    nowhere = sample_vm("lone")
    assert host_lines(WEB, [app, DB, elsewhere, nowhere, WEB]) == [
        "10.77.0.2 web.lab.appcat web",
        "10.77.0.9 app.lab.appcat app",
        "10.77.0.3 db.lab.appcat db",
    ]
    assert host_lines(nowhere, [WEB, DB, nowhere]) == []


def test_a_short_name_is_the_address_on_the_first_network() -> None:
    web = dataclasses.replace(WEB, networks=(on("lab", "10.77.0.2", 1), on("back", "10.78.0.2", 0)))
    db = dataclasses.replace(DB, networks=(on("back", "10.78.0.3"), on("lab", "10.77.0.3", 1)))
    assert host_lines(web, [web, db]) == [
        "10.77.0.2 web.lab.appcat web",
        "10.78.0.2 web.back.appcat",
        "10.78.0.3 db.back.appcat db",
        "10.77.0.3 db.lab.appcat",
    ]


def test_a_fork_is_known_by_the_name_it_goes_by_where_nobody_is_called_so() -> None:
    fork = sample_vm("b", hostname="web", networks=(on("lab", "10.77.0.5"),))
    assert host_lines(DB, [DB, fork])[1:] == ["10.77.0.5 b.lab.appcat b web"]
    assert host_lines(DB, [DB, fork, WEB])[1:] == ["10.77.0.5 b.lab.appcat b", "10.77.0.2 web.lab.appcat web"]
    assert host_lines(fork, [DB, fork, WEB]) == [
        "10.77.0.5 b.lab.appcat b web",
        "10.77.0.3 db.lab.appcat db",
        "10.77.0.2 web.lab.appcat",
    ]


def test_of_two_forks_with_one_inner_name_the_first_has_it() -> None:
    forks = [sample_vm(name, hostname="web", networks=(on("lab", f"10.77.0.{n}"),)) for n, name in enumerate("cb", 5)]
    assert host_lines(DB, [DB, *forks])[1:] == ["10.77.0.6 b.lab.appcat b web", "10.77.0.5 c.lab.appcat c"]


def test_no_vm_takes_localhost_for_itself() -> None:
    odd = sample_vm("localhost", networks=(on("lab", "10.77.0.7"),))
    assert host_lines(DB, [DB, odd])[1:] == ["10.77.0.7 localhost.lab.appcat"]


def test_root_ports_from_the_last_one_down() -> None:
    assert [interface_of(slot) for slot in range(4)] == ["@10.7", "@10.6", "@10.5", "@10.4"]


def test_statements_name_the_neighbours_and_set_up_the_cards(ctx: Context) -> None:
    ctx.networks.save(sample_network("back", subnet="10.78.0.0/16"))
    web = dataclasses.replace(WEB, networks=(*WEB.networks, on("back", "10.78.0.2", 2)))
    add_vm(ctx, web)
    add_vm(ctx, DB)
    hosts, *cards = network_statements(ctx, web)
    kind, mode, path, data = hosts.split(" ")
    assert (kind, mode, path) == ("section", "0644", "/etc/hosts")
    assert base64.b64decode(data).decode().splitlines() == [
        "127.0.0.1 localhost",
        "::1 localhost",
        "10.0.2.2 host.appcat.internal",
        *host_lines(web, [web, DB]),
    ]
    assert cards == [
        "mac @10.7 52:54:0a:4d:00:02",
        "address @10.7 10.77.0.2/24",
        "mac @10.5 52:54:0a:4e:00:02",
        "address @10.5 10.78.0.2/16",
    ]


def test_a_vm_without_networks_has_a_name_all_the_same(ctx: Context) -> None:
    (hosts,) = network_statements(ctx, sample_vm())
    assert b"127.0.0.1 localhost web\n" in base64.b64decode(hosts.split(" ")[3])


def test_a_network_whose_file_is_gone_is_told(ctx: Context) -> None:
    ctx.networks.remove("lab")
    with pytest.raises(NotFound):
        network_statements(ctx, WEB)


# --- telling


@contextlib.contextmanager
def guest(ctx: Context, vm: Vm, answer: str = "ok", *, ready: bool = True) -> Iterator[FakeGuest]:
    """A vm that runs, with a guest program that answers."""
    with alive(ctx, vm):
        runtime = ctx.layout.runtime(vm.uuid)
        if ready:
            runtime.ready.touch()
        with FakeGuest(runtime.guest, answer) as talker:
            yield talker


def test_a_guest_is_told_what_it_does_not_know_and_nothing_twice(ctx: Context) -> None:
    with guest(ctx, WEB) as web:
        assert tell(ctx, "web") is True
        assert tell(ctx, "web") is False
        assert web.told == [network_statements(ctx, WEB)]
        add_vm(ctx, DB)
        assert tell(ctx, "web") is True
        assert web.told[1] == network_statements(ctx, WEB) != web.told[0]


def test_what_the_boot_document_said_is_not_told_again(ctx: Context) -> None:
    with guest(ctx, WEB) as web:
        note_told(ctx, WEB, network_statements(ctx, WEB))
        assert tell(ctx, "web") is False
        assert web.told == []


@pytest.mark.parametrize(("answer", "error"), [("error", GuestError), ("", DeadlineExceeded)])
def test_what_a_guest_did_not_take_is_not_noted(ctx: Context, answer: str, error: type[AppcatError]) -> None:
    with guest(ctx, WEB, answer):
        with pytest.raises(error):
            tell(ctx, "web", 0.3)
        assert not told(ctx, WEB)


def test_a_guest_that_did_not_answer_costs_nobody_time_until_it_has(ctx: Context) -> None:
    with guest(ctx, WEB, "") as web:
        with pytest.raises(DeadlineExceeded):
            tell(ctx, "web", 0.3)
        web.answer = "ok"
        inform(ctx, ["lab"])
        assert len(web.told) == 1
        catch_up(ctx, "web")
        assert len(web.told) == 2
        add_vm(ctx, DB)
        inform(ctx, ["lab"])
        assert len(web.told) == 3


def test_nobody_talks_over_another(ctx: Context) -> None:
    with guest(ctx, WEB) as web:
        with locks.hold(ctx.layout.vm("web").agent_lock, "exec"), pytest.raises(Busy):
            tell(ctx, "web", 0.1)
        assert web.told == []


def test_all_who_run_are_informed(ctx: Context) -> None:
    with guest(ctx, WEB) as web, guest(ctx, DB) as db:
        add_vm(ctx, sample_vm("app", networks=(on("lab", "10.77.0.9"),)))
        inform(ctx, ["lab"])
        assert [len(web.told), len(db.told)] == [1, 1]
        inform(ctx, ["lab"])
        assert [len(web.told), len(db.told)] == [1, 1]


def test_who_is_left_out_and_who_is_elsewhere_is_told_nothing(ctx: Context) -> None:
    elsewhere = dataclasses.replace(DB, networks=(on("other", "10.88.0.2"),))
    with guest(ctx, WEB) as web, guest(ctx, elsewhere) as db:
        inform(ctx, ["lab"], but=["web"])
        inform(ctx, [])
        assert web.told == db.told == []


def test_a_vm_that_is_gone_is_not_known_any_more(ctx: Context) -> None:
    add_vm(ctx, DB)
    with guest(ctx, WEB) as web:
        inform_of(ctx, [DB])
        ctx.store.remove("db")
        inform_of(ctx, [DB])
        assert [b"db.lab.appcat" in base64.b64decode(document[0].split(" ")[3]) for document in web.told] == [
            True,
            False,
        ]


@pytest.mark.parametrize("cause", ["booting", "not itself yet", "stopped"])
def test_who_cannot_listen_is_left_to_the_keeper(ctx: Context, cause: str) -> None:
    with guest(ctx, WEB, ready=cause != "booting") as web:
        if cause == "not itself yet":
            ctx.store.save_run("web", sample_run(begun=False))
        if cause == "stopped":
            ctx.store.forget_run("web")
        inform(ctx, ["lab"])
        assert web.told == []


def test_a_guest_that_hangs_or_refuses_keeps_nobody_from_being_told(
    ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(neighbours, "INFORM_PATIENCE", 0.5)
    app = sample_vm("app", uuid="30000000-0000-4000-8000-000000000000", networks=(on("lab", "10.77.0.9"),))
    with guest(ctx, WEB, ""), guest(ctx, DB, "error"), guest(ctx, app) as last:
        inform(ctx, ["lab"])
        assert len(last.told) == 1
        assert not told(ctx, WEB)
        assert not told(ctx, DB)


def test_informing_never_fails(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    with guest(ctx, WEB) as web:
        ctx.layout.network("lab").write_text("damaged")
        inform(ctx, ["lab"])
        catch_up(ctx, "web")
        catch_up(ctx, "nobody")
        assert web.told == []

    def fail(_census: Census) -> tuple[Vm, ...]:
        raise OSError("no descriptors left")

    monkeypatch.setattr(Census, "vms", fail)
    inform(ctx, ["lab"])


def test_one_guest_catches_up(ctx: Context) -> None:
    with guest(ctx, WEB, ready=False) as web:
        add_vm(ctx, DB)
        catch_up(ctx, "web")
        catch_up(ctx, "web")
        assert web.told == [network_statements(ctx, WEB)]
        assert told(ctx, WEB) == digest(network_statements(ctx, WEB))
