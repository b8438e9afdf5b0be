"""``appcat template ...``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from appcat.cli.complete import complete_template
from appcat.cli.lazy import group_of
from appcat.cli.options import Json

if TYPE_CHECKING:
    from appcat.model.shapes import TemplateInfo


def list_(as_json: Json = False) -> None:
    """List the templates and whether they are built."""
    from appcat.cli.engine import engine
    from appcat.cli.output import print_json, print_table

    found = engine().list_templates()
    if as_json:
        print_json(found)
    else:
        print_table(["NAME", "SIZE", "IMAGE", "DESCRIPTION"], [_row(known) for known in found])


def build(
    name: Annotated[str, typer.Argument(help="The template.", autocompletion=complete_template)] = "pico",
    as_json: Json = False,
) -> None:
    """Build a template's image.

    From the distribution's packages as they are now.
    Nothing changes when nothing has changed: the same packages give the same image.
    """
    from appcat.cli.engine import engine
    from appcat.cli.output import print_json, progress, say
    from appcat.model.size import format_size

    with progress() as report:
        image = engine(report).build(name)
    if as_json:
        print_json(image)
        return
    say(f"{image['template']} {image['digest'][:12]}")
    say(f"  kernel + initramfs   {format_size(image['kernel']['size'])} + {format_size(image['initramfs']['size'])}")
    say(f"  decompressed (cache) {format_size(image['vmlinux']['size'])} + {format_size(image['rootfs']['size'])}")
    say(f"  packages             {len(image['packages'])}")
    say(f"  in                   {image.get('directory', '')}")


def _row(known: TemplateInfo) -> list[str]:
    from appcat.model.size import format_size

    image = known["image"]
    size = format_size(image["kernel"]["size"] + image["initramfs"]["size"]) if image else "not built"
    digest = image["digest"][:12] if image else ""
    return [known["name"], size, digest, known["problem"] or known["description"]]


group = group_of("Recipes that images are built from.", {"list": f"{__name__}:list_", "build": f"{__name__}:build"})
