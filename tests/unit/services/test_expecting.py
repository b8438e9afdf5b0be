from __future__ import annotations

import pytest

from appcat.errors import NotFound, Stale
from appcat.services import edit
from appcat.services.context import Context
from appcat.services.delete import delete
from appcat.services.edit import Changes
from appcat.services.expecting import expecting
from tests.unit.support.samples import OTHER_UUID, sample_vm
from tests.unit.support.vms import add_vm

CHANGE = Changes(autostart=True)


def test_tag_changes_with_the_file_alone(ctx: Context) -> None:
    add_vm(ctx)
    before = ctx.store.tag("web")
    ctx.store.save(ctx.store.load("web"))
    assert ctx.store.tag("web") == before
    edit.edit(ctx, "web", CHANGE)
    assert ctx.store.tag("web") != before
    with pytest.raises(NotFound):
        ctx.store.tag("nope")


def test_change_of_what_is_as_expected_tells_the_new_tag(ctx: Context) -> None:
    add_vm(ctx)
    with expecting("web", {"x", ctx.store.tag("web")}) as expected:
        edit.edit(ctx, "web", CHANGE)
    assert expected.left == ctx.store.tag("web")


def test_change_of_what_is_not_as_expected_does_nothing(ctx: Context) -> None:
    vm = add_vm(ctx)
    with expecting("web", {"x"}):
        for change in (
            lambda: edit.edit(ctx, "web", CHANGE),
            lambda: edit.label(ctx, "web", {"a": "b"}),
            lambda: edit.rename(ctx, "web", "other"),
            lambda: delete(ctx, "web"),
            lambda: delete(ctx, "web", force=True),
        ):
            with pytest.raises(Stale):
                change()
    assert ctx.store.load("web") == vm


def test_other_vms_and_later_changes_are_not_meant(ctx: Context) -> None:
    add_vm(ctx)
    add_vm(ctx, sample_vm("other", uuid=OTHER_UUID))
    with expecting("web", {"x"}):
        edit.edit(ctx, "other", CHANGE)
    edit.edit(ctx, "web", CHANGE)


def test_nothing_expected_is_fine(ctx: Context) -> None:
    add_vm(ctx)
    with expecting("web", None) as expected:
        edit.edit(ctx, "web", CHANGE)
    assert expected.left
