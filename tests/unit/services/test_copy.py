from __future__ import annotations

from pathlib import Path

import pytest

from appcat.errors import AppcatError, InvalidInput, NotFound, WrongState
from appcat.services.context import Context
from appcat.services.copy import Place, Source, Target, _decide, _kind, _look, copy
from tests.unit.support.vms import add_vm


@pytest.mark.parametrize(
    ("text", "vm", "path"),
    [
        ("notes", "", "notes"),
        ("./a:b", "", "./a:b"),
        ("/tmp/a:b", "", "/tmp/a:b"),
        ("web:/root", "web", "/root"),
        ("web:notes", "web", "./notes"),
        ("web:", "web", "./"),
        ("web:~", "web", "./"),
        ("web:~/notes", "web", "./notes"),
        ("web:-r", "web", "./-r"),
        ("web:/a:b", "web", "/a:b"),
    ],
)
def test_places(text: str, vm: str, path: str) -> None:
    assert Place.parse(text) == Place(vm, path)


@pytest.mark.parametrize("text", ["", ":/x", "Web:/x", "a b:x"])
def test_places_that_are_none(text: str) -> None:
    with pytest.raises(InvalidInput):
        Place.parse(text)


@pytest.mark.parametrize(
    ("path", "name", "parent"),
    [("/a/b", "b", "/a"), ("/a/", "a", "/"), ("a", "a", "."), (".", "", "."), ("a/.", "", "a"), ("/", "", "/")],
)
def test_last_component(path: str, name: str, parent: str) -> None:
    assert (Place("", path).name, Place("", path).parent) == (name, parent)


def file(path: str) -> Source:
    return Source(Place("", path), directory=False)


def folder(path: str) -> Source:
    return Source(Place("", path), directory=True)


WEB = Place("web", "/srv/x")


@pytest.mark.parametrize(
    ("kind", "target", "sources", "decided", "name"),
    [
        ("dir", WEB, [file("a/b")], Target("/srv/x", ""), "b"),
        ("dir", WEB, [folder("a/b/")], Target("/srv/x", ""), "b"),
        ("dir", WEB, [folder("a/.")], Target("/srv/x", ""), ""),
        ("missing", WEB, [file("a/b")], Target("/srv", "x"), "x"),
        ("missing", WEB, [folder("a/.")], Target("/srv", "x"), "x"),
        ("missing", Place("web", "/srv/x/"), [folder("a")], Target("/srv", "x"), "x"),
        ("other", WEB, [file("a/b")], Target("/srv", "x"), "x"),
    ],
)
def test_rules_of_cp(kind: str, target: Place, sources: list[Source], decided: Target, name: str) -> None:
    assert _decide(kind, target, sources) == decided
    assert decided.name_of(sources[0]) == name


@pytest.mark.parametrize(
    ("kind", "target", "sources", "error"),
    [
        ("no-parent", WEB, [file("a")], NotFound),
        ("missing", WEB, [file("a"), file("b")], InvalidInput),
        ("other", WEB, [file("a"), file("b")], InvalidInput),
        ("other", WEB, [folder("a")], InvalidInput),
        ("missing", Place("web", "/srv/x/"), [file("a")], InvalidInput),
        ("dir", WEB, [file("a/x"), file("b/x")], InvalidInput),
    ],
)
def test_refusals_of_cp(kind: str, target: Place, sources: list[Source], error: type[AppcatError]) -> None:
    with pytest.raises(error):
        _decide(kind, target, sources)


def test_kinds_of_targets_here(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    kinds = [_kind(Place("", str(tmp_path / name))) for name in ("", "file", "dangling", "new", "new/x", "file/x")]
    assert kinds == ["dir", "other", "other", "missing", "no-parent", "no-parent"]


def test_a_link_is_copied_as_a_link_unless_a_slash_follows(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    (tmp_path / "link").symlink_to("dir")
    seen = [_look(Place("", f"{tmp_path}/{name}")).directory for name in ("dir", "link", "link/", "link/.")]
    assert seen == [True, False, True, True]
    with pytest.raises(NotFound):
        _look(Place("", f"{tmp_path}/gone"))


@pytest.mark.parametrize(
    ("sources", "target"),
    [
        ([Place("", "a")], Place("", "b")),
        ([Place("web", "a")], Place("db", "b")),
        ([Place("web", "a"), Place("", "b")], Place("", "c")),
        ([], Place("web", "/")),
    ],
)
def test_one_side_is_a_vm(ctx: Context, sources: list[Place], target: Place) -> None:
    with pytest.raises(InvalidInput, match="one side"):
        copy(ctx, sources, target)


def test_stopped_vm(ctx: Context, tmp_path: Path) -> None:
    vm = add_vm(ctx)
    with pytest.raises(WrongState) as caught:
        copy(ctx, [Place("", str(tmp_path))], Place(vm.name, "/"))
    assert caught.value.code == "vm-not-running"
