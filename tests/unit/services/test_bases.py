from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import psutil
import pytest

from appcat.errors import InsufficientSpace
from appcat.model.size import MIB
from appcat.qemu import img
from appcat.services import bases as bases_module
from appcat.services import config
from appcat.services.bases import bases, budget, dig_holes, layers, memory_taken, place_memory, sweep
from appcat.services.context import Context
from appcat.settings import memory_directory
from appcat.store import locks
from appcat.store.layout import CREATE_PREFIX, VmPaths
from tests.unit.store.test_bases import made
from tests.unit.support.qemu import needs_qemu


@pytest.fixture
def roomy(ctx: Context, short: Path) -> Context:
    """A home with a directory that stands for the memory-backed one."""
    return Context(dataclasses.replace(ctx.settings, memory=short / "shm" / "appcat" / "home"))


def test_memory_goes_to_the_memory_backed_directory(roomy: Context) -> None:
    with bases(roomy).making() as (_, paths):
        file = place_memory(roomy, paths, 4 * MIB)
        assert file == paths.memory_backed
        assert (file.stat().st_size, file.stat().st_mode & 0o777) == (4 * MIB, 0o600)
    assert not file.exists(), "a base that came to nothing leaves nothing"


def test_over_the_budget_it_goes_to_disk(roomy: Context) -> None:
    config.set_(roomy, "frozen-memory", "3M")
    with bases(roomy).making() as (_, paths):
        assert place_memory(roomy, paths, 4 * MIB) == paths.memory_on_disk


def test_a_full_disk_refuses_and_keeps_nothing(roomy: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(bases_module.shutil, "disk_usage", lambda _path: usage._replace(free=MIB))
    with bases(roomy).making() as (_, paths):
        with pytest.raises(InsufficientSpace) as caught:
            place_memory(roomy, paths, 4 * MIB)
        assert "4 MiB" in caught.value.message
        assert not paths.memory_on_disk.exists()
        assert paths.memory_backed and not paths.memory_backed.exists()


def test_directory_that_somebody_else_prepared_is_not_trusted(roomy: Context) -> None:
    assert roomy.settings.memory
    roomy.settings.memory.mkdir(parents=True, mode=0o777)
    roomy.settings.memory.chmod(0o777)
    with bases(roomy).making() as (_, paths):
        assert place_memory(roomy, paths, 4 * MIB) == paths.memory_on_disk


def test_budget_is_a_quarter_unless_the_home_says_otherwise(ctx: Context) -> None:
    assert budget(ctx) == psutil.virtual_memory().total // 4
    config.set_(ctx, "frozen-memory", "512M")
    assert budget(ctx) == 512 * MIB


def test_zeros_are_given_back_and_still_read_as_zeros(tmp_path: Path) -> None:
    file = tmp_path / "memory"
    file.write_bytes(b"x" * MIB + bytes(2 * MIB) + b"y" * MIB)
    assert dig_holes(file) <= 2 * MIB + 64 * 1024
    assert file.read_bytes() == b"x" * MIB + bytes(2 * MIB) + b"y" * MIB


def test_sweep_ends_what_nobody_uses_but_not_what_is_warm(ctx: Context) -> None:
    store = bases(ctx)
    unused, warm = made(store), made(store, warm="a digest")
    assert memory_taken(unused) > 0
    sweep(ctx)
    assert store.all() == [warm]


def test_sweep_ends_what_a_killed_maker_left(ctx: Context) -> None:
    paths = ctx.layout.base("0011223344556677")
    paths.root.mkdir(parents=True)
    paths.maker_lock.touch()
    paths.state.touch()
    sweep(ctx)
    assert bases(ctx).ids() == []


def test_sweep_takes_the_layers_of_a_base_whose_removal_was_cut_off(ctx: Context) -> None:
    base = made(bases(ctx))
    ctx.layout.base(base.id).root.rename(ctx.layout.bases / f".gone-{base.id}")
    ctx.layout.layers.mkdir(parents=True)
    (ctx.layout.layers / "0011223344556677.qcow2").touch()
    sweep(ctx)
    assert list(ctx.layout.layers.iterdir()) == []


def test_sweep_ends_memory_without_a_base(roomy: Context) -> None:
    assert roomy.settings.memory
    roomy.settings.memory.mkdir(parents=True)
    (roomy.settings.memory / "0011223344556677").write_bytes(b"of nobody")
    sweep(roomy)
    assert list(roomy.settings.memory.iterdir()) == []


def test_two_homes_never_share_memory() -> None:
    one, other = memory_directory(Path("/home/ann/a")), memory_directory(Path("/home/ann/b"))
    assert one is None or one != other


@needs_qemu
def test_layers_go_with_the_half_made_clone_that_stood_on_them(ctx: Context, tmp_path: Path) -> None:
    img.create(tmp_path / "data.qcow2", MIB)
    layer = layers(ctx).add(tmp_path / "data.qcow2")
    half_made = VmPaths(ctx.layout.vms / f"{CREATE_PREFIX}x")
    half_made.disks.mkdir(parents=True)
    img.create(half_made.disks / "data.qcow2", MIB, backing=layer)
    with locks.hold(half_made.op_lock, "create"):
        sweep(ctx)
        assert layer.exists(), "its maker lives"
    sweep(ctx)
    assert not half_made.root.exists()
    assert not layer.exists()
