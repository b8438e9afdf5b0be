from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from appcat.errors import AlreadyExists, AppcatError, InvalidInput, NotFound, WrongState
from appcat.guest.identity import SshKey
from appcat.model.size import MIB
from appcat.model.vm import RestartPolicy
from appcat.services import edit as edit_service
from appcat.services import ssh_config
from appcat.services.context import Context
from appcat.services.disks import add_disk
from appcat.services.edit import Changes, edit, label, rename
from appcat.services.observe import list_vms
from appcat.store import vms as store_module
from appcat.store.files import make_private_directory
from tests.unit.support.samples import OTHER_UUID, sample_vm
from tests.unit.support.vms import add_vm, alive

KEY = SshKey.generate()
KIND, PUBLIC = KEY.public_line.split()[:2]


class Cut(BaseException):
    """The process ended here: nothing catches it, nothing is tidied up."""


def add_with_keys(ctx: Context) -> None:
    add_vm(ctx)
    paths = ctx.layout.vm("web")
    paths.known_hosts.write_text(f"web {KIND} {PUBLIC}\n")
    ssh_config.write_ssh_config(ctx, sample_vm())


# --- edit and label


def test_what_is_given_changes_and_the_rest_stays(ctx: Context) -> None:
    before = add_vm(ctx, sample_vm(labels={"a": "b"}))
    changed = edit(ctx, "web", Changes(cpus=1, memory=128 * MIB, restart=RestartPolicy.ALWAYS, autostart=True))
    assert changed == ctx.store.load("web")
    assert (changed.cpus, changed.memory, changed.restart, changed.autostart) == (
        1,
        128 * MIB,
        RestartPolicy.ALWAYS,
        True,
    )
    assert (changed.uuid, changed.labels, changed.ssh_port) == (before.uuid, before.labels, before.ssh_port)


def test_false_is_a_change_too(ctx: Context) -> None:
    add_vm(ctx, sample_vm(autostart=True))
    assert edit(ctx, "web", Changes(autostart=False)).autostart is False


def test_no_change_is_no_order(ctx: Context) -> None:
    add_vm(ctx)
    with pytest.raises(InvalidInput) as caught:
        edit(ctx, "web", Changes())
    assert caught.value.hint


def test_disks_grow_and_only_when_all_of_it_can_be(ctx: Context) -> None:
    add_vm(ctx)
    make_private_directory(ctx.layout.vm("web").disks)
    for name in ("a", "b"):
        add_disk(ctx, "web", name, 16 * MIB)
    refused = [("a", 32 * MIB), ("b", 16 * MIB)], [("a", 32 * MIB), ("c", 32 * MIB)]
    for disks in refused:
        with pytest.raises(AppcatError):
            edit(ctx, "web", Changes(cpus=1, disks=tuple(disks)))
        assert [disk.size for disk in ctx.store.load("web").disks] == [16 * MIB] * 2
    assert ctx.store.load("web").cpus != 1
    changed = edit(ctx, "web", Changes(cpus=1, disks=(("a", 32 * MIB), ("b", 48 * MIB))))
    assert changed == ctx.store.load("web")
    assert (changed.cpus, [disk.size for disk in changed.disks]) == (1, [32 * MIB, 48 * MIB])


@pytest.mark.parametrize("changes", [Changes(cpus=0), Changes(cpus=10_000), Changes(memory=1 << 60)])
def test_what_this_host_can_never_give_is_refused(ctx: Context, changes: Changes) -> None:
    before = add_vm(ctx)
    with pytest.raises(AppcatError):
        edit(ctx, "web", changes)
    assert ctx.store.load("web") == before


@pytest.mark.parametrize("changes", [Changes(cpus=1), Changes(memory=128 * MIB), Changes(cpus=1, autostart=True)])
def test_hardware_of_a_running_vm_stays(ctx: Context, changes: Changes) -> None:
    with alive(ctx) as before:
        with pytest.raises(WrongState) as caught:
            edit(ctx, "web", changes)
        assert caught.value.code == "vm-running"
        assert ctx.store.load("web") == before


def test_policy_of_a_running_vm_can_change(ctx: Context) -> None:
    with alive(ctx):
        edit(ctx, "web", Changes(restart=RestartPolicy.ON_FAILURE))
    assert ctx.store.load("web").restart is RestartPolicy.ON_FAILURE


def test_labels_come_and_go(ctx: Context) -> None:
    add_vm(ctx, sample_vm(labels={"a": "1", "b": "2"}))
    assert label(ctx, "web", {"b": "3", "c": ""}, ["a", "never-there"]).labels == {"b": "3", "c": ""}
    assert ctx.store.load("web").labels == {"b": "3", "c": ""}


def test_a_label_both_set_and_taken_away_is_set(ctx: Context) -> None:
    add_vm(ctx, sample_vm(labels={"a": "1"}))
    assert label(ctx, "web", {"a": "2"}, ["a"]).labels == {"a": "2"}


# --- rename


def test_rename_changes_the_name_and_nothing_else(ctx: Context) -> None:
    add_with_keys(ctx)
    before = ctx.store.load("web")
    renamed = rename(ctx, "web", "shop")
    assert ctx.store.names() == ["shop"]
    assert ctx.store.load("shop") == renamed
    assert {**vars(renamed), "name": "web"} == vars(before)
    paths = ctx.layout.vm("shop")
    assert paths.known_hosts.read_text() == f"shop {KIND} {PUBLIC}\n"
    assert paths.ssh_config.read_text().startswith("Host shop\n")
    assert "/web/" not in paths.ssh_config.read_text()
    assert not paths.renaming.exists()


@pytest.mark.parametrize("new", ["", "..", "../x", "Shop", "a" * 64, "web\n"])
def test_a_bad_name_is_refused(ctx: Context, new: str) -> None:
    add_with_keys(ctx)
    with pytest.raises(InvalidInput):
        rename(ctx, "web", new)
    assert ctx.store.names() == ["web"]


def test_its_own_name_is_none(ctx: Context) -> None:
    add_with_keys(ctx)
    with pytest.raises(InvalidInput):
        rename(ctx, "web", "web")


def test_a_taken_name_is_refused_and_both_stay(ctx: Context) -> None:
    add_with_keys(ctx)
    other = add_vm(ctx, sample_vm("db", uuid=OTHER_UUID))
    with pytest.raises(AlreadyExists):
        rename(ctx, "web", "db")
    assert ctx.store.load("db") == other
    assert ctx.store.load("web") == sample_vm()


def test_what_is_not_there_cannot_be_renamed(ctx: Context) -> None:
    with pytest.raises(NotFound):
        rename(ctx, "web", "shop")


def test_a_running_vm_keeps_its_name(ctx: Context) -> None:
    with alive(ctx):
        ctx.layout.vm("web").known_hosts.write_text(f"web {KIND} {PUBLIC}\n")
        with pytest.raises(WrongState):
            rename(ctx, "web", "shop")
    assert ctx.store.names() == ["web"]


@pytest.mark.parametrize("content", [None, "", "web\n", "web \xff"])
def test_a_damaged_known_hosts_stops_it_before_anything_changes(ctx: Context, content: str | None) -> None:
    add_with_keys(ctx)
    path = ctx.layout.vm("web").known_hosts
    path.unlink()
    if content is not None:
        path.write_bytes(content.encode("latin-1"))
    with pytest.raises(AppcatError) as caught:
        rename(ctx, "web", "shop")
    assert "known_hosts" in caught.value.message
    assert ctx.store.load("web") == sample_vm()


# --- rename, cut off


class Steps:
    """Every change that a rename makes on disk, in order; the one with the number ``last`` does not happen."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: BaseException, last: int | None = None) -> None:
        self.done: list[str] = []
        self._error, self._last = error, last
        for module, name in (
            (store_module, "write_atomic"),
            (ssh_config, "write_atomic"),
            (store_module, "sync_directory"),
            (store_module, "unlink"),
            (Path, "rename"),
        ):
            monkeypatch.setattr(module, name, self._counted(name, getattr(module, name)))

    def _counted(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def step(path: Path, *args: Any, **options: Any) -> Any:
            if len(self.done) == self._last:
                self._last = -1  # what follows, such as tidying up, is done
                raise self._error
            self.done.append(f"{name} {path.name}")
            return function(path, *args, **options)

        return step


def all_steps(ctx: Context) -> list[str]:
    with pytest.MonkeyPatch.context() as patch:
        steps = Steps(patch, Cut())
        rename(ctx, "web", "shop")
    return steps.done


EXPECTED_STEPS = [
    "write_atomic known_hosts",
    "write_atomic renaming",
    "rename web",
    "sync_directory vms",
    "write_atomic vm.json",
    "unlink renaming",
    "write_atomic known_hosts",
    "write_atomic ssh_config",
]


def test_these_are_the_steps_of_a_rename(ctx: Context) -> None:
    """When this fails the numbers below miss a step, or try one that is not there."""
    add_with_keys(ctx)
    assert all_steps(ctx) == EXPECTED_STEPS


def the_one_name(ctx: Context) -> str:
    """The vm's only name, under which it can be used."""
    (name,) = ctx.store.names()
    loaded = ctx.store.load(name)
    assert loaded == sample_vm(name)
    assert [seen.name for seen in list_vms(ctx) if seen.vm is not None] == [name]
    names, *key = ctx.layout.vm(name).known_hosts.read_text().split()
    assert name in names.split(",")
    assert key == [KIND, PUBLIC]
    return name


@pytest.mark.parametrize("error", [Cut(), OSError(5, "Input/output error")], ids=["killed", "failed"])
@pytest.mark.parametrize("number", range(len(EXPECTED_STEPS)), ids=EXPECTED_STEPS)
def test_a_rename_cut_off_leaves_one_vm_that_works(ctx: Context, number: int, error: BaseException) -> None:
    add_with_keys(ctx)
    with pytest.MonkeyPatch.context() as patch:
        Steps(patch, error, number)
        with pytest.raises((Cut, OSError, AppcatError)):
            rename(ctx, "web", "shop")
    name = the_one_name(ctx)
    other = "shop" if name == "web" else "web"
    with pytest.raises(NotFound):
        ctx.store.load(other)
    # It can be changed, and be given any name, the old one included.
    assert label(ctx, name, {"still": "here"}).labels == {"still": "here"}
    for new in (other, "third", "web", "shop"):
        if new == name:
            continue
        assert rename(ctx, name, new).labels == {"still": "here"}
        name = new
        assert ctx.store.names() == [name]
        assert ctx.layout.vm(name).known_hosts.read_text() == f"{name} {KIND} {PUBLIC}\n"
        assert json.loads(ctx.layout.vm(name).spec.read_text())["name"] == name


@pytest.mark.parametrize("number", range(len(EXPECTED_STEPS)), ids=EXPECTED_STEPS)
def test_a_name_that_a_cut_off_rename_left_is_free(ctx: Context, number: int) -> None:
    add_with_keys(ctx)
    with pytest.MonkeyPatch.context() as patch:
        Steps(patch, Cut(), number)
        with pytest.raises(Cut):
            rename(ctx, "web", "shop")
    name = the_one_name(ctx)
    other = add_vm(ctx, sample_vm("shop" if name == "web" else "web", uuid=OTHER_UUID))
    assert ctx.store.load(other.name) == other
    assert ctx.store.load(name).uuid == sample_vm().uuid


def test_a_directory_renamed_by_hand_is_still_refused(ctx: Context) -> None:
    """The note allows one old name, not any."""
    add_with_keys(ctx)
    root = ctx.layout.vm("web").root
    shutil.copytree(root, ctx.layout.vms / "copy")
    with pytest.raises(AppcatError, match=r"vm\.json is of 'web', not of copy"):
        ctx.store.load("copy")
    (ctx.layout.vms / "copy" / "renaming").write_text("web shop\n")
    with pytest.raises(AppcatError, match=r"vm\.json is of 'web', not of copy"):
        ctx.store.load("copy")


def test_nobody_else_is_let_in_meanwhile(ctx: Context) -> None:
    add_with_keys(ctx)
    seen: list[str] = []

    def look(*_: Any) -> None:
        seen.extend(str(one.status) for one in list_vms(ctx))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(edit_service, "write_ssh_config", look)
        rename(ctx, "web", "shop")
    assert seen == ["busy"]
