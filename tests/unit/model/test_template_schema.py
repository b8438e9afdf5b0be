"""docs/template.schema.json says of recipes what appcat does."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from appcat.errors import InvalidInput
from appcat.model.template import parse_recipe
from tests.unit.model.test_template import RECIPE, SYSTEM

TOP = Path(__file__).parents[3]
SCHEMA: dict[str, Any] = json.loads((TOP / "docs" / "template.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def test_it_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


RECIPES = sorted((TOP / "templates").glob("*/template.toml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.parent.name)
def test_the_recipes_that_come_with_appcat_fit(recipe: Path) -> None:
    VALIDATOR.validate(tomllib.loads(recipe.read_text()))


@pytest.mark.parametrize(
    ("text", "good", "bad"),
    [
        (RECIPE, 'name = "tiny"', 'name = "../tiny"'),
        (RECIPE, 'ssh = "dropbear"', 'ssh = "telnet"'),
        (RECIPE, "cpus = 2", "cpus = 0"),
        (RECIPE, "cpus = 2", "cpus = 2\nthreads = 2"),
        (RECIPE, 'boot = ["virtio_pci"]', 'boot = "virtio_pci"'),
        (RECIPE, "[kernel.x86_64]", "[kernel.sparc]"),
        (RECIPE, 'mode = "0644"', 'mode = "4755"'),
        (RECIPE, 'mode = "0644"', 'mode = "0644", owner = "me"'),
        (SYSTEM, 'install = ["systemd-sysv", "sudo"]', 'install = ["sudo -y"]'),
        (SYSTEM, "sudo = true", 'sudo = "yes"'),
        (SYSTEM, 'enable = ["ssh.service"]', 'enable = ["ssh"]'),
        (SYSTEM, 'root = "disk"', 'root = "tape"'),
    ],
)
def test_both_refuse_the_same(text: str, good: str, bad: str) -> None:
    assert good in text
    VALIDATOR.validate(tomllib.loads(text))
    data = tomllib.loads(text.replace(good, bad, 1))
    with pytest.raises(InvalidInput):
        parse_recipe(data, "recipe")
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(data)


def test_the_schema_knows_no_key_that_appcat_does_not() -> None:
    for key in SCHEMA["properties"]:
        with pytest.raises(InvalidInput) as caught:
            parse_recipe({**tomllib.loads(RECIPE), key: object()}, "recipe")
        assert key in caught.value.message
        assert "unknown key" not in caught.value.message
