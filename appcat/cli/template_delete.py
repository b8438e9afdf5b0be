"""``appcat template delete|prune``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from appcat.cli.complete import complete_template
from appcat.cli.options import Json, Yes

if TYPE_CHECKING:
    from appcat.model.shapes import RemovedInfo


def delete(
    name: Annotated[str, typer.Argument(help="The template.", autocompletion=complete_template, show_default=False)],
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Delete a template of yours; of one that came with appcat, its image. Asks first on a terminal.

    Refused as long as vms start from it.
    """
    from appcat.cli.confirm import confirm
    from appcat.cli.engine import engine

    known = engine().show_template(name)
    if not known["vms"]:
        confirm(f"Delete {'template' if known['own'] else 'the image of template'} {name}?", yes)
    _tell(engine().delete_template(name), as_json)


def prune(as_json: Json = False) -> None:
    """Remove what no template and no vm needs: images of recipes as they were, packages fetched for builds."""
    from appcat.cli.engine import engine

    _tell(engine().prune_templates(), as_json)


def _tell(removed: list[RemovedInfo], as_json: bool) -> None:
    from appcat.cli.output import print_json, say
    from appcat.model.size import format_size

    if as_json:
        print_json(removed)
        return
    for item in removed:
        what = item["what"][:12] if item["kind"] == "image" else item["what"]
        say(f"{item['kind']} {what}: {format_size(item['size'])}")
    if not removed:
        say("nothing to remove")
