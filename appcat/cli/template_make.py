"""``appcat template build|create``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from appcat.cli.complete import complete_template, complete_vm
from appcat.cli.options import Json

if TYPE_CHECKING:
    from appcat.model.shapes import ImageInfo


def build(
    name: Annotated[
        str,
        typer.Argument(
            help="The template, or the directory of a recipe of yours.",
            metavar="NAME|DIRECTORY",
            autocompletion=complete_template,
        ),
    ] = "pico",
    as_json: Json = False,
) -> None:
    """Build a template's image.

    From the distribution's packages as they are now.
    Nothing changes when nothing has changed: the same packages give the same image.
    Given a directory (a name with a slash in it), its recipe becomes a template of yours first.

    \b
    Examples:
      appcat template build debian
      appcat template build ./mine
    """
    from appcat.cli.engine import engine, local
    from appcat.cli.output import print_json, progress

    with progress() as report:
        if os.sep in name or name == os.curdir:
            appcat = local("a recipe in a directory", report)
            image = appcat.build(appcat.add_template(Path(name)))
        else:
            image = engine(report).build(name)
    if as_json:
        print_json(image)
    else:
        _tell(image)


def create(
    name: Annotated[str, typer.Argument(help="What to call the template.", show_default=False)],
    source: Annotated[
        str, typer.Option("--from", help="The vm.", metavar="VM", autocompletion=complete_vm, show_default=False)
    ],
    as_json: Json = False,
) -> None:
    """Make a template of a vm: its disks as they are now, running or not.

    New vms of it get an identity of their own. What is only in the vm's memory is not part of it.

    \b
    Examples:
      appcat template create --from web web-base
      appcat vm run web2 --template web-base
    """
    from appcat.cli.engine import engine
    from appcat.cli.output import print_json, progress

    with progress() as report:
        image = engine(report).create_template(source, name)
    if as_json:
        print_json(image)
    else:
        _tell(image)


def _tell(image: ImageInfo) -> None:
    from appcat.cli.output import say
    from appcat.model.size import format_size

    say(f"{image['template']} {image['digest'][:12]}")
    say(f"  kernel + initramfs   {format_size(image['kernel']['size'])} + {format_size(image['initramfs']['size'])}")
    say(f"  decompressed (cache) {format_size(image['vmlinux']['size'])} + {format_size(image['rootfs']['size'])}")
    for disk in image["disks"]:
        stored = f"{format_size(disk['file']['size'])} of " if disk["file"] else ""
        say(f"  disk {disk['name']:<16}{stored}{format_size(disk['size'])}")
    say(f"  packages             {len(image['packages'])}")
    say(f"  in                   {image.get('directory', '')}")
