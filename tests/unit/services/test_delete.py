"""In which order several vms are deleted."""

from __future__ import annotations

import uuid

from appcat.model.vm import CloneKind, Parent
from appcat.services.context import Context
from appcat.services.delete import children_first
from appcat.services.describe import describe
from appcat.services.observe import list_vms
from tests.unit.support.samples import sample_vm
from tests.unit.support.vms import add_vm


def add(ctx: Context, name: str, parent: str = "", kind: CloneKind = CloneKind.LINKED) -> None:
    of = Parent(parent, uuid_of(parent), kind) if parent else None
    add_vm(ctx, sample_vm(name, uuid=uuid_of(name), parent=of))


def uuid_of(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, name))


def groups_of(ctx: Context, names: list[str]) -> list[list[str]]:
    return children_first(names, [describe(seen) for seen in list_vms(ctx)])


def test_linked_clones_go_before_what_they_stand_on(ctx: Context) -> None:
    add(ctx, "top")
    add(ctx, "mid", "top")
    add(ctx, "low", "mid")
    add(ctx, "copy", "top", CloneKind.FULL)
    add(ctx, "other", "elsewhere")
    groups = groups_of(ctx, ["top", "copy", "mid", "missing", "low", "other"])
    assert groups == [["copy", "missing", "low", "other"], ["mid"], ["top"]]


def test_one_group_where_nothing_stands_on_anything(ctx: Context) -> None:
    add(ctx, "one")
    add(ctx, "two")
    assert groups_of(ctx, ["two", "one"]) == [["two", "one"]]
    assert groups_of(ctx, []) == []


def test_parents_in_a_ring_end_all_the_same(ctx: Context) -> None:
    add(ctx, "hen", "egg")
    add(ctx, "egg", "hen")
    assert groups_of(ctx, ["hen", "egg"]) == [["hen", "egg"]]
