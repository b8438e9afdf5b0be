from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest

from appcat.errors import AlreadyExists, AppcatError, Broken, InvalidInput, NotFound
from appcat.model.size import MIB
from appcat.model.vm import DISK_SLOTS, SCHEMA, Disk, Vm
from appcat.qemu import img
from appcat.services import disks, overlays
from appcat.services.context import Context
from appcat.services.disks import add_disk, find_disk, grow_disk, list_disks, path_of, remove_disk, settle_disks
from appcat.services.observe import list_vms, show
from appcat.store.files import make_private_directory
from appcat.store.qcow2 import virtual_size
from tests.unit.support.listing import names_in
from tests.unit.support.samples import sample_vm
from tests.unit.support.vms import add_vm

SIZE = 16 * MIB


def slots(vm: Vm) -> dict[str, int]:
    return {disk.name: disk.slot for disk in vm.disks}


def files(ctx: Context) -> list[str]:
    return names_in(ctx.layout.vm("web").disks)


@pytest.fixture
def web(ctx: Context) -> Context:
    """A stopped vm without disks."""
    add_vm(ctx)
    make_private_directory(ctx.layout.vm("web").disks)
    return ctx


def test_a_disk_is_a_file_and_a_line_in_the_spec(web: Context) -> None:
    changed = add_disk(web, "web", "logs", SIZE)
    assert changed == web.store.load("web")
    assert changed.disks == (Disk("logs", "logs.qcow2", SIZE, 0),)
    assert virtual_size(path_of(web, "web", changed.disks[0])) == SIZE
    (use,) = list_disks(web, "web")
    assert use.disk == changed.disks[0]
    assert 0 < use.used < SIZE
    assert use.shared == 0


def test_what_is_below_an_overlay_is_told_apart(web: Context) -> None:
    (disk,) = add_disk(web, "web", "logs", SIZE).disks
    with path_of(web, "web", disk).open("r+b") as file:
        file.write(file.read())  # so that blocks are taken on every file system
        os.fsync(file.fileno())
    (before,) = list_disks(web, "web")
    overlays.freeze_stopped(web, web.store.load("web"))
    (after,) = list_disks(web, "web")
    assert after.shared == before.used
    assert 0 < after.used < SIZE


def test_a_removed_disk_leaves_the_others_where_they_are(web: Context) -> None:
    for name in ("a", "b", "c"):
        add_disk(web, "web", name, SIZE)
    assert slots(remove_disk(web, "web", "b")) == {"a": 0, "c": 2}
    assert files(web) == ["a.qcow2", "c.qcow2"]
    assert slots(add_disk(web, "web", "d", SIZE)) == {"a": 0, "c": 2, "d": 1}
    assert slots(remove_disk(web, "web", "a")) == {"c": 2, "d": 1}
    assert slots(web.store.load("web")) == {"c": 2, "d": 1}


def test_there_is_room_for_eight(web: Context) -> None:
    for number in range(DISK_SLOTS):
        add_disk(web, "web", f"d{number}", SIZE)
    full = web.store.load("web")
    assert sorted(slots(full).values()) == list(range(DISK_SLOTS))
    before = files(web)
    with pytest.raises(InvalidInput) as caught:
        add_disk(web, "web", "ninth", SIZE)
    assert str(DISK_SLOTS) in caught.value.message
    assert caught.value.hint
    assert web.store.load("web") == full
    assert files(web) == before
    remove_disk(web, "web", "d5")
    assert slots(add_disk(web, "web", "ninth", SIZE))["ninth"] == 5


def test_a_taken_name_is_refused_and_the_disk_untouched(web: Context) -> None:
    vm = add_disk(web, "web", "logs", SIZE)
    content = path_of(web, "web", vm.disks[0]).read_bytes()
    with pytest.raises(AlreadyExists):
        add_disk(web, "web", "logs", 2 * SIZE)
    assert web.store.load("web") == vm
    assert path_of(web, "web", vm.disks[0]).read_bytes() == content


@pytest.mark.parametrize("name", ["", "..", "../x", "a/b", "A", "-a", "a-", "x" * 21, "a b", "ä", "a\n"])
def test_a_bad_name_is_refused_before_a_file_is_made(web: Context, name: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        add_disk(web, "web", name, SIZE)
    assert caught.value.code == "invalid-name"
    assert files(web) == []


def test_a_disk_grows_and_never_shrinks(web: Context) -> None:
    add_disk(web, "web", "logs", SIZE)
    (disk,) = grow_disk(web, "web", "logs", 2 * SIZE).disks
    assert (disk.size, virtual_size(path_of(web, "web", disk))) == (2 * SIZE, 2 * SIZE)
    for size in (SIZE, 2 * SIZE):
        with pytest.raises(InvalidInput) as caught:
            grow_disk(web, "web", "logs", size)
        assert caught.value.code == "invalid-size"
    assert web.store.load("web").disks == (disk,)


@pytest.mark.parametrize("verb", ["remove", "grow"])
def test_a_disk_that_is_not_there_is_answered_with_those_that_are(web: Context, verb: str) -> None:
    add_disk(web, "web", "logs", SIZE)
    with pytest.raises(NotFound) as caught:
        remove_disk(web, "web", "log") if verb == "remove" else grow_disk(web, "web", "log", 2 * SIZE)
    assert caught.value.code == "disk-not-found"
    assert "logs" in caught.value.hint
    assert files(web) == ["logs.qcow2"]


def test_a_vm_without_disks_says_so() -> None:
    with pytest.raises(NotFound) as caught:
        find_disk(sample_vm(), "data")
    assert "none" in caught.value.hint


def test_an_addition_that_fails_leaves_nothing(web: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_path: Path, _size: int) -> None:
        raise AppcatError("no")

    with monkeypatch.context() as patch:
        patch.setattr(disks.img, "create", fail)
        with pytest.raises(AppcatError):
            add_disk(web, "web", "logs", SIZE)
    assert (web.store.load("web").disks, files(web)) == ((), [])


def test_a_growth_that_fails_is_as_if_never_asked_for(web: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    vm = add_disk(web, "web", "logs", SIZE)

    def fail(_path: Path, _size: int) -> None:
        raise AppcatError("no")

    with monkeypatch.context() as patch:
        patch.setattr(disks.img, "resize", fail)
        with pytest.raises(AppcatError):
            grow_disk(web, "web", "logs", 2 * SIZE)
    assert web.store.load("web") == vm


# --- what a change that was cut off left


def test_a_file_that_nobody_names_is_swept(web: Context) -> None:
    add_disk(web, "web", "logs", SIZE)
    img.create(web.layout.vm("web").disks / "orphan.qcow2", SIZE)
    (web.layout.vm("web").disks / "notes.txt").write_text("mine")
    settle_disks(web, web.store.load("web"))
    assert files(web) == ["logs.qcow2", "notes.txt"]


def test_an_addition_cut_off_after_the_file_can_be_asked_for_again(web: Context) -> None:
    img.create(web.layout.vm("web").disks / "logs.qcow2", 2 * SIZE)
    (disk,) = add_disk(web, "web", "logs", SIZE).disks
    assert virtual_size(path_of(web, "web", disk)) == SIZE


def test_a_growth_cut_off_after_the_spec_is_finished(web: Context) -> None:
    vm = add_disk(web, "web", "logs", SIZE)
    (disk,) = vm.disks
    grown = dataclasses.replace(vm, disks=(dataclasses.replace(disk, size=3 * SIZE),))
    web.store.save(grown)
    settle_disks(web, grown)
    assert virtual_size(path_of(web, "web", disk)) == 3 * SIZE


def test_a_lost_file_is_told_and_can_be_removed(web: Context) -> None:
    add_disk(web, "web", "keep", SIZE)
    (disk,) = web.store.load("web").disks
    path_of(web, "web", disk).unlink()
    with pytest.raises(Broken) as caught:
        settle_disks(web, web.store.load("web"))
    assert "keep.qcow2" in caught.value.message
    assert [use.used for use in list_disks(web, "web")] == [0]


# --- schema 1, in which a disk's place was its number


def write_schema_1(ctx: Context, *names: str) -> bytes:
    """A ``vm.json`` as appcat wrote it before disks had slots; its bytes."""
    path = ctx.layout.vm("web").spec
    body = json.loads(path.read_text())
    assert body["schema"] == SCHEMA == 3
    body["schema"] = 1
    body["disks"] = [{"name": name, "file": f"{name}.qcow2", "size": SIZE} for name in names]
    for name in names:
        img.create(ctx.layout.vm("web").disks / f"{name}.qcow2", SIZE)
    path.write_text(json.dumps(body))
    return path.read_bytes()


@pytest.mark.parametrize("names", [(), ("data",), ("data", "logs", "more")])
def test_disks_of_schema_1_get_the_places_they_had(web: Context, names: tuple[str, ...]) -> None:
    write_schema_1(web, *names)
    assert slots(web.store.load("web")) == {name: slot for slot, name in enumerate(names)}


def test_reading_schema_1_writes_nothing_back(web: Context) -> None:
    before = write_schema_1(web, "data", "logs")
    path = web.layout.vm("web").spec
    stamp, entries = path.stat().st_mtime_ns, names_in(path.parent)
    for _ in range(2):
        assert web.store.load("web").disks[1].slot == 1
        list_vms(web)
        show(web, "web")
        list_disks(web, "web")
    assert path.read_bytes() == before
    assert path.stat().st_mtime_ns == stamp
    assert set(names_in(path.parent)) - set(entries) <= {"op.lock", "run.lock", "status.lock"}


def test_the_first_change_writes_todays_schema_with_the_same_places(web: Context) -> None:
    write_schema_1(web, "data", "logs")
    remove_disk(web, "web", "data")
    body = json.loads(web.layout.vm("web").spec.read_text())
    assert body["schema"] == SCHEMA
    assert [(disk["name"], disk["slot"]) for disk in body["disks"]] == [("logs", 1)]


def test_more_disks_than_places_in_schema_1_are_broken(web: Context) -> None:
    write_schema_1(web, *(f"d{number}" for number in range(DISK_SLOTS + 1)))
    with pytest.raises(Broken, match="disks"):
        web.store.load("web")


@pytest.mark.parametrize(
    "change",
    [
        {"slot": 0},
        {"slot": -1},
        {"slot": DISK_SLOTS},
        {"name": "a"},
        {"file": "a.qcow2"},
        {"file": "../x"},
        {"size": 0},
    ],
)
def test_disks_that_cannot_be_are_broken(web: Context, change: dict[str, object]) -> None:
    for name in ("a", "b"):
        add_disk(web, "web", name, SIZE)
    path = web.layout.vm("web").spec
    body = json.loads(path.read_text())
    body["disks"][1].update(change)
    path.write_text(json.dumps(body))
    with pytest.raises(Broken, match="disks"):
        web.store.load("web")
