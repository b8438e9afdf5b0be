from __future__ import annotations

import dataclasses

import pytest

from appcat.errors import AlreadyExists, AppcatError, InvalidInput, NotFound, WrongState
from appcat.model.vm import CloneKind, Disk, Parent, Vm
from appcat.services.clone import MOST_AT_A_TIME, CloneRequest, clone, numbered
from appcat.services.context import Context
from appcat.services.delete import delete
from appcat.services.flatten import HasClones
from tests.unit.support.listing import names_in
from tests.unit.support.qemu import needs_qemu
from tests.unit.support.samples import OTHER_UUID, sample_vm
from tests.unit.support.vms import add_vm, alive


def test_numbered_names() -> None:
    assert numbered("n", 3) == ("n-1", "n-2", "n-3")


@pytest.mark.parametrize("count", [0, -1, MOST_AT_A_TIME + 1])
def test_counts_out_of_range(count: int) -> None:
    with pytest.raises(InvalidInput):
        numbered("n", count)


def test_number_that_makes_a_name_too_long() -> None:
    with pytest.raises(InvalidInput):
        numbered("n" * 62, 1)


REFUSED: list[tuple[CloneRequest, type[AppcatError]]] = [
    (CloneRequest("nobody", ("b",)), NotFound),
    (CloneRequest("web", ()), InvalidInput),
    (CloneRequest("web", ("b", "b")), InvalidInput),
    (CloneRequest("web", ("b", "../b")), InvalidInput),
    (CloneRequest("web", ("b", "web")), AlreadyExists),
    (CloneRequest("web", tuple(f"n{number}" for number in range(MOST_AT_A_TIME + 1))), InvalidInput),
    (CloneRequest("web", ("b",), CloneKind.INSTANT), WrongState),
    (CloneRequest("web", ("b",), CloneKind.LINKED, fork=True), InvalidInput),
    (CloneRequest("web", ("b",), None, fork=True), InvalidInput),
]


@pytest.mark.parametrize(("request_", "kind"), REFUSED)
def test_refused_before_anything_changes(ctx: Context, request_: CloneRequest, kind: type[AppcatError]) -> None:
    add_vm(ctx)
    before = names_in(ctx.layout.home)
    with pytest.raises(kind):
        clone(ctx, request_)
    assert ctx.store.names() == ["web"]
    assert names_in(ctx.layout.home) == before


def with_a_disk(ctx: Context) -> Vm:
    from appcat.qemu import img
    from appcat.store.files import make_private_directory

    vm = add_vm(ctx, sample_vm(disks=(Disk("data", "data.qcow2", 1 << 20, 0),)))
    make_private_directory(ctx.layout.vm("web").disks)
    img.create(ctx.layout.vm("web").disks / "data.qcow2", 1 << 20)
    return vm


@needs_qemu
@pytest.mark.parametrize("kind", [CloneKind.LINKED, CloneKind.FULL])
def test_clone_of_a_stopped_vm_is_somebody_else(ctx: Context, kind: CloneKind) -> None:
    source = with_a_disk(ctx)
    done = clone(ctx, CloneRequest("web", ("b", "c"), kind))
    assert [outcome.error for outcome in done.outcomes] == [None, None]
    clones = [ctx.store.load(name) for name in ("b", "c")]
    for facts in ("uuid", "machine_id", "nics", "ssh_forward"):
        assert len({str(getattr(vm, facts)) for vm in (source, *clones)}) == 3, facts
    assert {vm.parent for vm in clones} == {Parent("web", source.uuid, kind)}
    keys = {(ctx.layout.vm(name).known_hosts.read_text().split()[2]) for name in ("b", "c")}
    assert len(keys) == 2


@needs_qemu
def test_linked_clone_shares_one_layer_with_its_source(ctx: Context) -> None:
    with_a_disk(ctx)
    clone(ctx, CloneRequest("web", ("b",)))
    from appcat.services.bases import layers

    chains = []
    for name in ("web", "b"):
        (disk,) = ctx.store.load(name).disks
        chains.append(layers(ctx).chain(ctx.layout.vm(name).disks / disk.file))
    assert [len(chain) for chain in chains] == [2, 2]
    assert chains[0][1] == chains[1][1]
    assert names_in(ctx.layout.vm("web").disks) == [chains[0][0].name]


def test_parent_of_a_linked_clone_stays(ctx: Context) -> None:
    source = add_vm(ctx)
    child = sample_vm("b", uuid=OTHER_UUID, parent=Parent("web", source.uuid, CloneKind.LINKED))
    add_vm(ctx, child)
    for force in (False, True):
        with pytest.raises(HasClones) as caught:
            delete(ctx, "web", force=force)
        assert "appcat vm flatten b" in caught.value.hint
    ctx.store.save(dataclasses.replace(child, parent=Parent("web", source.uuid, CloneKind.FULL)))
    delete(ctx, "web")
    assert ctx.store.names() == ["b"]


@pytest.mark.parametrize("parent", [None, Parent("web", OTHER_UUID, CloneKind.INSTANT)])
def test_parent_of_others_can_go(ctx: Context, parent: Parent | None) -> None:
    source = add_vm(ctx)
    mine = dataclasses.replace(parent, uuid=source.uuid) if parent else None
    add_vm(ctx, sample_vm("b", uuid=OTHER_UUID, parent=mine))
    delete(ctx, "web")


def test_fork_keeps_the_name_that_its_guest_has() -> None:
    assert sample_vm("b", hostname="web").inner_name == "web"
    assert sample_vm("b").inner_name == "b"


def test_instant_clone_of_a_vm_that_started_under_another_qemu(ctx: Context) -> None:
    """The record says QEMU 7.2.22 under tcg; whatever this host has, the version is made another one."""
    with alive(ctx):
        run = ctx.store.load_run("web")
        assert run
        ctx.store.save_run("web", dataclasses.replace(run, qemu_version="1.0", pid=1))
        with pytest.raises(AppcatError) as caught:
            clone(ctx, CloneRequest("web", ("b",)))
    assert caught.value.code in ("state-mismatch", "missing-tool")
    assert ctx.store.names() == ["web"]
