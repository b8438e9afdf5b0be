from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from appcat.services.census import Census, mark
from appcat.services.context import Context
from tests.unit.support.samples import OTHER_UUID, sample_network, sample_vm
from tests.unit.support.vms import add_vm


def make_old(path: Path, seconds: float = 60) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


@pytest.fixture
def census(ctx: Context) -> Census:
    """Of two vms and a network, whose files are not young any more."""
    ctx.networks.save(sample_network())
    make_old(ctx.layout.network("lab"))
    for vm in (sample_vm(), sample_vm("db", uuid=OTHER_UUID)):
        add_vm(ctx, vm)
        make_old(ctx.layout.vm(vm.name).spec)
    return Census(ctx)


@pytest.fixture
def reads(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The vms whose files were read."""
    found: list[str] = []
    load = type(ctx.store).load
    monkeypatch.setattr(type(ctx.store), "load", lambda store, name: (found.append(name), load(store, name))[1])
    return found


def test_files_that_have_not_changed_are_not_read_again(ctx: Context, census: Census, reads: list[str]) -> None:
    seen = census.vms()
    assert seen == (sample_vm("db", uuid=OTHER_UUID), sample_vm())
    assert census.vms() is seen
    assert sorted(reads) == ["db", "web"]


def test_a_file_that_has_changed_is_read_until_it_is_old(ctx: Context, census: Census, reads: list[str]) -> None:
    census.vms()
    reads.clear()
    changed = sample_vm("db", uuid=OTHER_UUID, cpus=1)
    ctx.store.save(changed)
    assert census.vms() == (changed, sample_vm())
    assert census.vms() == (changed, sample_vm())
    assert reads == ["db", "db"]
    make_old(ctx.layout.vm("db").spec, 30)
    seen = census.vms()
    assert census.vms() is seen
    assert reads == ["db", "db", "db"]


def test_vms_come_and_go(ctx: Context, census: Census) -> None:
    census.vms()
    ctx.store.remove("db")
    assert census.vms() == (sample_vm(),)
    ctx.layout.vm("web").spec.write_text("damaged")
    assert census.vms() == ()
    add_vm(ctx, sample_vm("app"))
    assert census.vms() == (sample_vm("app"),)


def test_a_network_that_has_changed_is_a_change(ctx: Context, census: Census) -> None:
    seen = census.vms()
    make_old(ctx.layout.network("lab"), 30)
    assert census.vms() is not seen


def test_a_file_that_is_young_is_no_proof_of_anything(tmp_path: Path) -> None:
    path = tmp_path / "x"
    assert mark(path) == ()
    path.touch()
    assert mark(path) is None
    make_old(path)
    assert mark(path) == mark(path) != ()
