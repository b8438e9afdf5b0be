"""``appcat config ...``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from appcat.cli.complete import complete_config
from appcat.cli.lazy import group_of
from appcat.cli.options import Json

if TYPE_CHECKING:
    from appcat.model.shapes import SettingInfo

KeyName = Annotated[str, typer.Argument(help="The setting.", show_default=False, autocompletion=complete_config)]


def list_(as_json: Json = False) -> None:
    """List all settings, what they are, and where that comes from."""
    from appcat.cli.engine import engine
    from appcat.cli.output import print_json, print_table
    from appcat.model.config import Key

    settings = engine().list_settings()
    if as_json:
        print_json([_without_help(one) for one in settings])
        return
    rows = [
        [one["key"], one["value"] or "", one["source"] if one["value"] else Key.variable(one["key"]), one["help"]]
        for one in settings
    ]
    print_table(["SETTING", "VALUE", "FROM", "WHAT"], rows)


def get(key: KeyName, as_json: Json = False) -> None:
    """Print one setting; exit status 1 when it is not set."""
    from appcat.cli.engine import engine
    from appcat.cli.output import print_json, say

    found = engine().get_setting(key)
    value = found["value"]
    if as_json:
        print_json(_without_help(found))
    elif value is not None:
        say(value)
    if value is None:
        raise typer.Exit(1)


def set_(
    key: KeyName,
    value: Annotated[
        str, typer.Argument(help="Its value; - reads it from standard input, where nobody sees it.", show_default=False)
    ],
    as_json: Json = False,
) -> None:
    """Remember a default.

    \b
    Examples:
      appcat config set memory 512M
      appcat config set accelerator tcg
      appcat config set proxy http://proxy.example.org:3128
    """
    from appcat.cli.engine import engine
    from appcat.cli.output import print_json
    from appcat.model.config import find_key

    given = sys.stdin.readline().strip() if value == "-" else value
    engine().set_setting(key, given)
    if as_json:
        print_json({"key": key, "value": find_key(key).shown(given), "source": "config.json"})


def unset(key: KeyName, as_json: Json = False) -> None:
    """Forget a default."""
    from appcat.cli.engine import engine
    from appcat.cli.output import print_json

    engine().unset_setting(key)
    if as_json:
        print_json({"key": key, "value": None, "source": "not set"})


def _without_help(setting: SettingInfo) -> dict[str, str | None]:
    return {"key": setting["key"], "value": setting["value"], "source": setting["source"]}


group = group_of(
    "Defaults of this home. An environment variable goes before them, an option before both.",
    {
        name: f"{__name__}:{function}"
        for name, function in (("list", "list_"), ("get", "get"), ("set", "set_"), ("unset", "unset"))
    },
)
