from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from appcat.errors import Broken
from appcat.model.size import MIB
from appcat.qemu import img
from appcat.store.layers import LayerStore
from appcat.store.qcow2 import backing_file, virtual_size
from tests.unit.support.qemu import needs_qemu

pytestmark = needs_qemu


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "vms" / "web" / "disks").mkdir(parents=True)
    return tmp_path


def store_of(home: Path) -> LayerStore:
    return LayerStore(home / "layers" / "frozen" / "disks")


def disk_of(home: Path, vm: str = "web") -> Path:
    directory = home / "vms" / vm / "disks"
    directory.mkdir(parents=True, exist_ok=True)
    return directory / "data.qcow2"


def frozen(home: Path) -> tuple[Path, Path]:
    """A disk made a layer, and the overlay on it that took its place."""
    disk = disk_of(home)
    img.create(disk, 8 * MIB)
    layer = store_of(home).add(disk)
    overlay = disk.with_name("data-1.qcow2")
    img.create(overlay, 8 * MIB, backing=layer)
    return layer, overlay


def test_header_tells_size_and_what_is_below(home: Path) -> None:
    layer, overlay = frozen(home)
    assert (virtual_size(overlay), backing_file(overlay)) == (8 * MIB, layer)
    assert backing_file(layer) is None


@pytest.mark.parametrize("content", [b"", b"QFI\xfb", b"no image at all, but long enough to hold a header......"])
def test_what_is_no_qcow2_is_broken(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "disk.qcow2"
    path.write_bytes(content)
    with pytest.raises(Broken):
        backing_file(path)


def test_layer_is_the_disk_itself_and_outlives_its_name(home: Path) -> None:
    layer, overlay = frozen(home)
    assert layer.samefile(disk_of(home))
    disk_of(home).unlink()
    assert store_of(home).chain(overlay) == [overlay, layer]


def test_layer_on_a_layer_names_it_from_where_it_is(home: Path) -> None:
    """A hard link is read from another directory than it was written for."""
    lowest, overlay = frozen(home)
    middle = store_of(home).add(overlay)
    top = disk_of(home, "clone")
    img.create(top, 8 * MIB, backing=middle)
    assert store_of(home).chain(top) == [top, middle, lowest]


def test_moved_home_keeps_its_chains(home: Path, tmp_path: Path) -> None:
    _, overlay = frozen(home)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for name in ("vms", "layers"):
        shutil.move(home / name, moved / name)
    chain = store_of(moved).chain(moved / overlay.relative_to(home))
    assert [path.exists() for path in chain] == [True, True]
    assert all(path.is_relative_to(moved) for path in chain)


def test_sweep_keeps_what_anything_stands_on(home: Path) -> None:
    lowest, overlay = frozen(home)
    middle = store_of(home).add(overlay)
    orphan = store_of(home).add(disk_of(home))
    top = disk_of(home, "clone")
    img.create(top, 8 * MIB, backing=middle)
    store_of(home).sweep([top], [])
    assert sorted(store_of(home).path("x").parent.iterdir()) == sorted([lowest, middle])
    assert not orphan.exists()


def test_sweep_keeps_what_a_base_names(home: Path) -> None:
    layer, overlay = frozen(home)
    overlay.unlink()
    store_of(home).sweep([], [layer.name])
    assert layer.exists()
    store_of(home).sweep([], [])
    assert not layer.exists()


def test_nothing_is_swept_while_a_disk_cannot_be_read(home: Path) -> None:
    layer, overlay = frozen(home)
    os.truncate(overlay, 10)
    store_of(home).sweep([overlay], [])
    assert layer.exists()
