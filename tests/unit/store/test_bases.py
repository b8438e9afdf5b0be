from __future__ import annotations

import os
import threading
import time

import pytest

from appcat.errors import NotFound
from appcat.model.base import Base
from appcat.services.context import Context
from appcat.store import locks
from appcat.store.bases import BaseStore
from appcat.store.layout import BasePaths
from tests.unit.support.samples import sample_vm


def base_of(identifier: str, paths: BasePaths, **changes: str) -> Base:
    """A base whose files are there."""
    paths.memory_on_disk.write_bytes(b"memory")
    paths.state.write_bytes(b"state")
    facts = {"qemu_version": "7.2.22", "accelerator": "tcg", "cpu": "max", "memory": str(paths.memory_on_disk)}
    return Base(id=identifier, created="2026-11-25T12:00:00Z", vm=sample_vm(), **{**facts, **changes})


def made(store: BaseStore, **changes: str) -> Base:
    with store.making() as (identifier, paths):
        base = base_of(identifier, paths, **changes)
        store.publish(base)
    return base


@pytest.fixture
def store(ctx: Context) -> BaseStore:
    return BaseStore(ctx.layout)


def test_base_is_there_once_published(store: BaseStore) -> None:
    with store.making() as (identifier, paths):
        assert store.ids() == [identifier]
        assert store.load(identifier) is None
        assert store.is_being_made(identifier)
        base = base_of(identifier, paths)
        store.publish(base)
    assert store.all() == [base]
    assert not store.is_being_made(identifier)


def test_base_that_is_not_published_is_gone(store: BaseStore) -> None:
    with pytest.raises(ZeroDivisionError), store.making() as (_, paths):
        paths.state.write_bytes(b"half of it")
        raise ZeroDivisionError
    assert store.ids() == []
    assert not paths.root.exists()


@pytest.mark.parametrize("file", ["state", "memory_on_disk", "spec"])
def test_base_without_one_of_its_files_is_none(ctx: Context, store: BaseStore, file: str) -> None:
    base = made(store)
    getattr(ctx.layout.base(base.id), file).unlink()
    assert store.all() == []


def test_base_cannot_go_while_somebody_uses_it(store: BaseStore) -> None:
    base = made(store)
    users = [store.use(base.id), store.use(base.id)]
    for user in users:
        assert not store.remove_if_unused(base.id)
        os.close(user)
    assert store.remove_if_unused(base.id)
    assert store.ids() == []
    assert not store.remove_if_unused(base.id)


def test_who_finds_another_at_the_removal_waits_for_its_end(ctx: Context, store: BaseStore) -> None:
    """The other one may be killed before it sweeps the layers: then this one has to, and the base must not be there."""
    base = made(store)
    paths = ctx.layout.base(base.id)
    other = locks.open_lock(paths.use_lock)
    assert locks.try_lock(other)

    def remove_slowly() -> None:
        time.sleep(0.3)
        paths.root.rename(ctx.layout.bases / f".gone-{base.id}")
        os.close(other)

    thread = threading.Thread(target=remove_slowly)
    thread.start()
    assert store.remove_if_unused(base.id)
    thread.join()
    assert store.ids() == []


def test_what_another_began_to_remove_and_did_not_is_removed(ctx: Context, store: BaseStore) -> None:
    base = made(store)
    other = locks.open_lock(ctx.layout.base(base.id).use_lock)
    assert locks.try_lock(other)
    threading.Timer(0.3, os.close, [other]).start()
    assert store.remove_if_unused(base.id)
    assert store.ids() == []


def test_base_that_has_gone_cannot_be_used(store: BaseStore) -> None:
    base = made(store)
    store.remove_if_unused(base.id)
    with pytest.raises(NotFound):
        store.use(base.id)


def test_removal_that_was_cut_off_is_finished(ctx: Context, store: BaseStore) -> None:
    base = made(store)
    ctx.layout.base(base.id).root.rename(ctx.layout.bases / f".gone-{base.id}")
    assert store.ids() == []
    assert store.sweep_removed()
    assert not store.sweep_removed()
    assert list(ctx.layout.bases.iterdir()) == []


def test_maker_that_was_killed_is_known_by_its_lock(ctx: Context, store: BaseStore) -> None:
    paths = ctx.layout.base("0011223344556677")
    paths.root.mkdir(parents=True)
    assert store.is_being_made("0011223344556677"), "about to take its lock"
    paths.maker_lock.touch()
    assert not store.is_being_made("0011223344556677")
    with locks.hold(paths.maker_lock, "make a base"):
        assert store.is_being_made("0011223344556677")
