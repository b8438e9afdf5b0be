"""Templates and their images: what is where, who uses it, what goes."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from appcat.errors import AlreadyExists, AppcatError, Conflict, InvalidInput, NotFound
from appcat.model.size import GIB
from appcat.model.vm import ROOT_SLOT
from appcat.services import create, delete, disks, template_files, template_garbage, templates
from appcat.services.bases import layers
from appcat.services.context import Context
from appcat.services.create import CreateRequest
from appcat.store.files import disk_usage
from appcat.store.qcow2 import backing_file, virtual_size
from tests.unit.model.test_template import RECIPE
from tests.unit.support.listing import names_in
from tests.unit.support.qemu import needs_qemu
from tests.unit.support.templates import SIZE, add_image, add_template

pytestmark = needs_qemu


@pytest.fixture
def full(ctx: Context) -> Context:
    """A home whose template ``full`` is built."""
    add_template(ctx)
    add_image(ctx)
    return ctx


def make(ctx: Context, name: str = "web", template: str = "full", **sizes: int) -> None:
    create.create(ctx, CreateRequest(name, template=template, disks=tuple(sizes.items()), networks=()))


# --- vms with disks of their image


def test_a_vm_has_the_disks_of_its_image(full: Context) -> None:
    make(full, logs=GIB)
    vm = full.store.load("web")
    assert [(disk.name, disk.size, disk.slot) for disk in vm.disks] == [
        ("root", SIZE, ROOT_SLOT),
        ("data", SIZE, 0),
        ("logs", GIB, 1),
    ]
    assert vm.root_disk == vm.disks[0]
    directory = full.layout.vm("web").disks
    below = backing_file(directory / "root.qcow2")
    assert below is not None
    assert below.parent == full.layout.layers
    assert backing_file(directory / "data.qcow2") is None


def test_they_can_be_larger_but_not_smaller(full: Context) -> None:
    make(full, root=2 * GIB, data=3 * GIB)
    assert virtual_size(full.layout.vm("web").disks / "root.qcow2") == 2 * GIB
    assert virtual_size(full.layout.vm("web").disks / "data.qcow2") == 3 * GIB
    with pytest.raises(InvalidInput, match="can only be larger"):
        make(full, "small", root=SIZE // 2)
    assert names_in(full.layout.vms) == ["web"]


def test_no_disk_can_be_called_root_where_the_root_is_in_memory(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    add_template(ctx)
    stored = add_image(ctx)
    memory = stored.__class__(stored.image.__class__(**{**vars(stored.image), "disks": ()}), stored.directory)
    monkeypatch.setattr(create.templates, "ensure", lambda _ctx, _name: memory)
    with pytest.raises(InvalidInput, match="root in memory"):
        make(ctx, root=GIB)
    make(ctx)
    with pytest.raises(InvalidInput, match="starts from"):
        disks.add_disk(ctx, "web", "root", GIB)


def test_the_root_disk_stays(full: Context) -> None:
    make(full)
    with pytest.raises(InvalidInput) as caught:
        disks.remove_disk(full, "web", "root")
    assert caught.value.code == "root-disk"


def test_vms_share_one_layer_which_outlives_the_image(full: Context) -> None:
    make(full, "one")
    make(full, "two")
    (layer,) = full.layout.layers.glob("*.qcow2")
    stored = templates.ensure(full, "full")
    disk = stored.disk("root")
    assert disk is not None
    assert layer.samefile(disk)
    templates.images(full).remove(stored.image.digest)
    assert layer.exists()
    delete.delete(full, "one")
    assert layer.exists()
    delete.delete(full, "two")
    assert not layer.exists()


def test_a_layer_of_another_file_system_is_a_copy(
    full: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_link(_source: object, _target: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    disk = templates.ensure(full, "full").disk("root")
    assert disk is not None
    with monkeypatch.context() as patch:
        patch.setattr("appcat.store.layers.os.link", no_link)
        layer = layers(full).adopt(disk, "image-x")
    assert not layer.samefile(disk)
    assert layer.read_bytes() == disk.read_bytes()
    assert layers(full).adopt(disk, "image-x") == layer
    assert [path.name for path in full.layout.layers.iterdir()] == ["image-x.qcow2"]


# --- list, show, add


def test_what_is_listed(full: Context) -> None:
    make(full)
    (known,) = templates.list_templates(full)
    assert (known.name, known.own, known.vms, known.problem) == ("full", False, ("web",), "")
    assert known.image is not None


def test_a_recipe_of_ones_own(full: Context, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "template.toml").write_text('name = "web"\ndescription = "mine"\nbase = "full"\n')
    assert templates.add(full, mine) == "web"
    known = templates.show(full, "web")
    assert (known.own, known.description, known.image) == (True, "mine", None)
    (mine / "template.toml").write_text('name = "web"\ndescription = "changed"\nbase = "full"\n')
    assert templates.show(full, "web").description == "mine"
    templates.add(full, mine)
    assert templates.show(full, "web").description == "changed"
    assert names_in(full.layout.templates) == ["web"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('name = "full"\ndescription = "x"\nbase = "full"\n', "template-exists"),
        ('name = "web"\ndescription = "x"\nbase = "full"\nsurprise = 1\n', "invalid-recipe"),
        ('name = "web"\ndescription = "x"\nbase = "nothing"\n', "not-found"),
        ("name = ", "invalid-recipe"),
        (RECIPE.replace('source = "passwd"', 'source = "../../etc/passwd"'), "invalid-recipe"),
    ],
)
def test_a_recipe_that_is_refused_leaves_nothing(full: Context, tmp_path: Path, text: str, code: str) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "template.toml").write_text(text)
    with pytest.raises(AppcatError) as caught:
        templates.add(full, mine)
    assert caught.value.code == code
    assert not full.layout.templates.exists()


def test_no_recipe_there(full: Context, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no template\.toml"):
        templates.add(full, tmp_path)


def test_what_a_kill_left_is_swept_and_what_is_being_added_stays(full: Context, tmp_path: Path) -> None:
    store = templates.own_templates(full)
    with store.adding("one") as busy:
        (busy / "file").write_text("half")
        left = full.layout.templates / ".new-0123"
        left.mkdir()
        left.with_suffix(".lock").touch()
        (full.layout.templates / ".gone-0123").mkdir()
        with store.adding("two") as other:
            (other / "file").write_text("whole")
        assert names_in(full.layout.templates) == sorted([busy.name, f"{busy.name}.lock", "two"])
    assert names_in(full.layout.templates) == ["one", "two"]


# --- delete, prune


def test_a_template_in_use_is_not_deleted(full: Context) -> None:
    make(full)
    with pytest.raises(Conflict, match="in use: web") as caught:
        template_garbage.delete(full, "full")
    assert caught.value.code == "template-in-use"
    delete.delete(full, "web")
    (removed,) = template_garbage.delete(full, "full")
    assert (removed.kind, removed.size > 0) == ("image", True)
    assert templates.show(full, "full").image is None
    with pytest.raises(Conflict, match="no image"):
        template_garbage.delete(full, "full")


def test_prune_keeps_what_is_needed(full: Context) -> None:
    make(full)
    needed = templates.ensure(full, "full").image.digest
    recipe = full.settings.templates / "full" / "template.toml"
    recipe.write_text(recipe.read_text() + "# changed\n")
    newer = add_image(full, content="newer").image.digest
    add_template(full, "other")
    other = add_image(full, "other", "other").image.digest
    (full.settings.templates / "other" / "template.toml").unlink()
    packages = full.settings.cache / "packages" / "archives"
    packages.mkdir(parents=True)
    (packages / "x.deb").write_text("package" * 1000)
    gone = template_garbage.prune(full)
    assert {item.what for item in gone if item.kind == "image"} == {other}
    assert [item.kind for item in gone if item.size > 0] == ["image", "packages"]
    assert {directory.name for directory in templates.images(full).directories()} == {needed, newer}
    delete.delete(full, "web")
    assert [item.what for item in template_garbage.prune(full)] == [needed]
    assert template_garbage.prune(full) == ()


# --- of a vm, into a file, out of a file


def test_a_template_of_a_vm(full: Context) -> None:
    make(full, root=2 * GIB)
    stored = template_files.create(full, "web", "mine")
    assert [(disk.name, disk.size) for disk in stored.image.disks] == [("root", 2 * GIB), ("data", SIZE)]
    delete.delete(full, "web")
    make(full, "again", "mine")
    vm = full.store.load("again")
    assert (vm.template.image, vm.memory, vm.disks[0].size) == (stored.image.digest, 256 << 20, 2 * GIB)
    known = templates.show(full, "mine")
    assert (known.own, known.vms, known.description) == (True, ("again",), "made from vm web")
    with pytest.raises(InvalidInput, match="no recipe"):
        templates.build(full, "mine")
    with pytest.raises(Conflict, match="in use"):
        template_garbage.delete(full, "mine")
    delete.delete(full, "again")
    template_garbage.delete(full, "mine")
    assert names_in(full.layout.templates) == []
    with pytest.raises(NotFound):
        templates.show(full, "mine")


def test_names_that_are_taken(full: Context) -> None:
    make(full)
    template_files.create(full, "web", "mine")
    for name in ("mine", "full"):
        with pytest.raises(AlreadyExists) as caught:
            template_files.create(full, "web", name)
        assert caught.value.code == "template-exists"
    with pytest.raises(NotFound):
        template_files.create(full, "nobody", "other")
    assert names_in(full.layout.templates) == ["mine"]


def test_out_and_in(full: Context, tmp_path: Path) -> None:
    file = tmp_path / "full.appcat"
    size = template_files.export_template(full, "full", file)
    assert file.stat().st_size == size
    stored = template_files.import_template(full, file, "mine")
    original = templates.ensure(full, "full")
    assert stored.image.template == "mine"
    assert stored.image.files == original.image.files
    for described in stored.image.files:
        assert (stored.directory / described.name).read_bytes() == (original.directory / described.name).read_bytes()
    make(full, "web", "mine")
    with pytest.raises(AlreadyExists, match="there already"):
        template_files.export_template(full, "full", file)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_a_vm_travels(full: Context, tmp_path: Path) -> None:
    make(full)
    file = tmp_path / "web.appcat"
    template_files.export_vm(full, "web", file)
    assert [disk.name for disk in template_files.import_template(full, file).image.disks] == ["root", "data"]
    assert templates.show(full, "web").own
    assert [path.name for path in tmp_path.glob(".appcat-export-*")] == []


Members = list[tuple[str, bytes]]


def flip_a_byte(members: Members) -> Members:
    name, data = members[-1]
    return [*members[:-1], (name, data[:-1] + bytes([data[-1] ^ 1]))]


def change_the_manifest(old: bytes, new: bytes) -> Callable[[Members], Members]:
    def change(members: Members) -> Members:
        (name, data), *rest = members
        assert old in data
        return [(name, data.replace(old, new)), *rest]

    return change


SPOILED: dict[str, Callable[[Members], Members]] = {
    "a byte": flip_a_byte,
    "a file less": lambda members: members[:-1],
    "a file more": lambda members: [*members, ("surprise", b"")],
    "a path that leads out": change_the_manifest(b'"root.qcow2"', b'"../../x"'),
    "another memory": change_the_manifest(b'"memory": 268435456', b'"memory": 999999999'),
    "no manifest": lambda members: members[1:],
}
CUT: dict[str, Callable[[bytes], bytes]] = {
    "cut off": lambda data: data[: len(data) // 2],
    "nonsense": lambda _: b"nonsense" * 1000,
    "empty": lambda _: b"",
}


def spoil(file: Path, how: str) -> None:
    if how in CUT:
        file.write_bytes(CUT[how](file.read_bytes()))
        return
    members: Members = []
    with tarfile.open(file) as tar:
        for member in tar:
            content = tar.extractfile(member)
            assert content is not None
            members.append((member.name, content.read()))
    with tarfile.open(file, "w") as tar:
        for name, data in SPOILED[how](members):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))


@pytest.mark.parametrize("how", [*SPOILED, *CUT])
def test_a_damaged_file_is_refused_and_leaves_nothing(full: Context, tmp_path: Path, how: str) -> None:
    file = tmp_path / "full.appcat"
    template_files.export_template(full, "full", file)
    spoil(file, how)
    with pytest.raises(InvalidInput) as caught:
        template_files.import_template(full, file, "mine")
    assert caught.value.code == "invalid-template-file"
    assert not full.layout.templates.exists() or names_in(full.layout.templates) == []


def test_files_that_are_not_there(full: Context, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no file"):
        template_files.import_template(full, tmp_path / "none")
    with pytest.raises(NotFound, match="no directory"):
        template_files.export_template(full, "full", tmp_path / "none" / "x")
    assert disk_usage(tmp_path / "none") == 0
