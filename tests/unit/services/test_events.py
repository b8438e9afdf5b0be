"""Events as services write and read them."""

from __future__ import annotations

import dataclasses
import threading
import time

import pytest

from appcat.errors import Cancelled, InvalidInput
from appcat.model.event import Event, EventKind
from appcat.model.port import PortForward
from appcat.model.run import ExitCause
from appcat.model.vm import RestartPolicy
from appcat.services import config
from appcat.services.context import Context
from appcat.services.delete import delete
from appcat.services.disks import add_disk, grow_disk, remove_disk
from appcat.services.edit import Changes, edit, label, rename
from appcat.services.events import (
    EventFilter,
    follow,
    is_wanted,
    last_events,
    list_events,
    parse_event_filters,
    record,
    record_ready,
)
from appcat.services.ports import add_port, remove_port
from appcat.services.settle import settle
from appcat.store.events import EventLog, Listener, Lost
from tests.unit.services.test_edit import add_with_keys
from tests.unit.support.samples import UUID, sample_exit, sample_run
from tests.unit.support.vms import add_vm, alive

MIB = 1 << 20


def kinds(ctx: Context) -> list[str]:
    return [event.kind for event in list_events(ctx) if not event.kind.startswith("operation.")]


def last(ctx: Context) -> Event:
    return [event for event in list_events(ctx) if not event.kind.startswith("operation.")][-1]


def told(ctx: Context) -> tuple[str, str, str, dict[str, object]]:
    event = last(ctx)
    return event.kind, event.vm, event.uuid, event.detail


# --- writing


def test_a_vm_is_named_as_it_is_called_then(ctx: Context) -> None:
    record(ctx, EventKind.VM_PAUSED, add_vm(ctx))
    record(ctx, EventKind.VM_PAUSED, "web", reason="why")
    record(ctx, EventKind.VM_DELETED, "gone")
    record(ctx, EventKind.VM_DELETED, "gone", uuid="known")
    record(ctx, EventKind.CONFIG_CHANGED, key="cpus", value=None)
    assert [(event.vm, event.uuid) for event in list_events(ctx)] == [
        ("web", UUID),
        ("web", UUID),
        ("gone", ""),
        ("gone", "known"),
        ("", ""),
    ]


def test_a_guest_is_ready_once_in_a_life(ctx: Context) -> None:
    vm = add_vm(ctx, run=sample_run())
    record_ready(ctx, vm)
    record_ready(ctx, vm)
    assert kinds(ctx) == ["vm.ready"]
    settle(ctx, "web")
    record_ready(ctx, vm)
    assert kinds(ctx) == ["vm.ready", "vm.stopped"]


def test_an_end_is_told_once_with_its_cause(ctx: Context) -> None:
    add_vm(ctx, run=sample_run())
    settle(ctx, "web", sample_exit(ExitCause.KILLED))
    settle(ctx, "web")
    assert kinds(ctx) == ["vm.stopped"]
    assert told(ctx) == ("vm.stopped", "web", UUID, {"cause": "killed", "reason": "for a reason"})


def test_an_end_of_what_did_not_start_is_not_told(ctx: Context) -> None:
    add_vm(ctx, run=sample_run())
    settle(ctx, "web", sample_exit(ExitCause.NOT_STARTED))
    assert kinds(ctx) == []


def test_a_living_vm_has_not_ended(ctx: Context) -> None:
    with alive(ctx):
        settle(ctx, "web")
    assert kinds(ctx) == []


def test_short_verbs_tell_what_they_did(ctx: Context) -> None:
    add_with_keys(ctx)
    edit(ctx, "web", Changes(restart=RestartPolicy.ALWAYS, autostart=False))
    assert told(ctx) == ("vm.edited", "web", UUID, {"restart": "always", "autostart": False})
    label(ctx, "web", {"a": "b"}, ["c"])
    assert told(ctx) == ("vm.labelled", "web", UUID, {"labels": {"a": "b"}, "removed": ["c"]})
    rename(ctx, "web", "shop")
    assert told(ctx) == ("vm.renamed", "shop", UUID, {"from": "web"})
    config.set_(ctx, "cpus", "1")
    assert told(ctx) == ("config.changed", "", "", {"key": "cpus", "value": "1"})
    config.unset(ctx, "cpus")
    assert told(ctx) == ("config.changed", "", "", {"key": "cpus", "value": None})
    delete(ctx, "shop")
    assert told(ctx) == ("vm.deleted", "shop", UUID, {})


def test_ports_and_disks_tell_what_they_did(ctx: Context) -> None:
    add_vm(ctx)
    (ctx.layout.vm("web").disks).mkdir()
    forward = PortForward(28123, 80)
    add_port(ctx, "web", forward)
    add_port(ctx, "web", forward)
    remove_port(ctx, "web", forward)
    add_disk(ctx, "web", "more", MIB)
    grow_disk(ctx, "web", "more", 2 * MIB)
    remove_disk(ctx, "web", "more")
    assert [(event.kind, event.detail) for event in list_events(ctx)] == [
        ("port.added", {"port": str(forward)}),
        ("port.removed", {"port": str(forward)}),
        ("disk.added", {"disk": "more", "size": MIB}),
        ("disk.grown", {"disk": "more", "size": 2 * MIB}),
        ("disk.removed", {"disk": "more"}),
    ]


def test_what_was_refused_is_not_told(ctx: Context) -> None:
    add_vm(ctx)
    for refused in (
        lambda: edit(ctx, "web", Changes(cpus=0)),
        lambda: rename(ctx, "web", "web"),
        lambda: delete(ctx, "nobody"),
        lambda: remove_port(ctx, "web", PortForward(28123, 80)),
    ):
        with pytest.raises(Exception):  # noqa: B017
            refused()
    assert list_events(ctx) == []


# --- reading


def write(ctx: Context, count: int) -> None:
    for _ in range(count):
        record(ctx, EventKind.VM_STARTED, "web")


def test_the_last_ones(ctx: Context) -> None:
    assert last_events(ctx, 5) == []
    write(ctx, 10)
    assert [event.id for event in last_events(ctx, 3)] == [8, 9, 10]
    assert len(last_events(ctx, 100)) == 10
    assert last_events(ctx, 0) == []


def test_following_without_patience_reads_what_is_there(ctx: Context) -> None:
    write(ctx, 5)
    assert [event.id for event in follow(ctx, 2, 0.0)] == [3, 4, 5]
    assert list(follow(ctx, 5, 0.0)) == []
    with pytest.raises(Lost):
        list(follow(ctx, 6, 0.0))


@pytest.mark.parametrize("with_listener", [True, False])
def test_following_sees_what_comes(ctx: Context, with_listener: bool) -> None:
    write(ctx, 2)
    writer = threading.Timer(0.1, write, (ctx, 3))
    listener = Listener(ctx.layout) if with_listener else None
    seen: list[int] = []
    writer.start()
    for event in follow(ctx, 1, 20, wait=listener.wait if listener else time.sleep):
        seen.append(event.id)
        if event.id == 5:
            break
    writer.join()
    assert seen == [2, 3, 4, 5]
    if listener:
        listener.close()


def test_following_can_be_called_off(ctx: Context) -> None:
    def check() -> None:
        raise Cancelled("enough", hint="none")

    with pytest.raises(Cancelled):
        list(follow(dataclasses.replace(ctx, check=check), 0))


def test_a_reader_does_not_write(ctx: Context) -> None:
    list(follow(ctx, 0, 0.0))
    assert not ctx.layout.events.exists()
    assert EventLog(ctx.layout).mark() is None


# --- filters

STARTED = Event(1, "", "vm.started", "web-1")


@pytest.mark.parametrize(
    ("texts", "wanted"),
    [
        ([], True),
        (["vm=web-1"], True),
        (["vm=web"], False),
        (["vm=web-*"], True),
        (["kind=vm.*"], True),
        (["kind=vm.stopped,kind=vm.started"], True),
        (["kind=vm.stopped", "kind=vm.started"], True),
        (["kind=vm.started", "vm=db"], False),
    ],
)
def test_filters(texts: list[str], wanted: bool) -> None:
    assert is_wanted(STARTED, parse_event_filters(texts)) is wanted


@pytest.mark.parametrize("text", ["", "vm", "vm=", "kin=vm.started", "kind=vm.startet", "kind=nothing.*"])
def test_what_is_no_filter(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_event_filters([text])
    assert caught.value.code == "invalid-filter"
    assert caught.value.hint


def test_filters_are_data() -> None:
    assert parse_event_filters(["vm=a, kind=vm.*"]) == [EventFilter("vm", "a"), EventFilter("kind", "vm.*")]
