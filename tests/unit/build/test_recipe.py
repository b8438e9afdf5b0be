"""Recipes on disk: what they are based on, and files that they name."""

from __future__ import annotations

from pathlib import Path

import pytest

from appcat.build.catalog import fingerprint
from appcat.build.recipe import read_recipe
from appcat.errors import InvalidInput, NotFound
from appcat.model.vm import Arch
from tests.unit.model.test_template import RECIPE, SYSTEM

MINE = """
name = "mine"
description = "mine"
base = "full"
commands = ["echo"]
[files]
"/etc/issue" = { source = "issue", mode = "0644" }
"/usr/sbin/data-disk" = { source = "@guest/data-disk", mode = "0755" }
"""


@pytest.fixture
def templates(tmp_path: Path) -> Path:
    files = {
        "guest/data-disk": "shared",
        "guest/appcat-guest.c": "program",
        "full/template.toml": SYSTEM,
        "full/motd": "welcome",
        "mine/template.toml": MINE,
        "mine/issue": "mine",
        "tiny/template.toml": RECIPE,
        "tiny/passwd": "root",
    }
    for name, text in files.items():
        path = tmp_path / "templates" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "templates"


def test_files_come_from_where_the_recipe_says(templates: Path) -> None:
    source = read_recipe(templates / "mine", templates, Arch.X86_64)
    assert source.files == {"issue": b"mine", "@guest/data-disk": b"shared", "@full/motd": b"welcome"}
    assert source.base is not None
    assert source.base.recipe.name == "full"
    assert source.commands == ("echo",)


def test_a_recipe_anywhere(templates: Path, tmp_path: Path) -> None:
    (templates / "mine").rename(tmp_path / "mine")
    assert read_recipe(tmp_path / "mine", templates, Arch.X86_64).recipe.login == "ann"


@pytest.mark.parametrize(
    ("base", "what"),
    [("nothing", "no template nothing"), ("tiny", "root in memory"), ("mine", "itself"), ("../full", "base")],
)
def test_a_base_that_cannot_be_one(templates: Path, base: str, what: str) -> None:
    recipe = templates / "mine" / "template.toml"
    recipe.write_text(recipe.read_text().replace('base = "full"', f'base = "{base}"'))
    with pytest.raises((InvalidInput, NotFound), match=what):
        read_recipe(templates / "mine", templates, Arch.X86_64)


def test_bases_in_a_circle(templates: Path) -> None:
    recipe = templates / "full" / "template.toml"
    recipe.write_text('base = "mine"\n' + recipe.read_text())
    with pytest.raises(InvalidInput, match="itself"):
        read_recipe(templates / "mine", templates, Arch.X86_64)
    assert fingerprint(templates / "mine", templates, Arch.X86_64)


def test_a_link_that_leads_out(templates: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (templates / "mine" / "issue").unlink()
    (templates / "mine" / "issue").symlink_to(tmp_path / "secret")
    with pytest.raises(InvalidInput, match="leads out"):
        read_recipe(templates / "mine", templates, Arch.X86_64)


@pytest.mark.parametrize("changed", ["mine/issue", "full/motd", "full/template.toml", "guest/data-disk"])
def test_the_fingerprint_tells_of_all_that_goes_in(templates: Path, changed: str) -> None:
    before = fingerprint(templates / "mine", templates, Arch.X86_64)
    (templates / changed).write_text((templates / changed).read_text() + "\n# more")
    assert fingerprint(templates / "mine", templates, Arch.X86_64) != before


def test_others_leave_the_fingerprint_alone(templates: Path) -> None:
    before = fingerprint(templates / "full", templates, Arch.X86_64)
    (templates / "mine" / "issue").write_text("other")
    assert fingerprint(templates / "full", templates, Arch.X86_64) == before
