"""``appcat template export|import`` and ``appcat vm export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from appcat.cli.complete import complete_template, complete_vm
from appcat.cli.options import Json

Target = Annotated[Path, typer.Argument(help="The new file.", metavar="FILE", show_default=False)]


def export(
    name: Annotated[str, typer.Argument(help="The template.", autocompletion=complete_template, show_default=False)],
    target: Target,
    as_json: Json = False,
) -> None:
    """Write a template's image into one file, with checksums; it is built first when it is not there.

    \b
    Example:
      appcat template export debian debian.appcat
    """
    from appcat.cli.engine import local
    from appcat.cli.output import progress

    with progress() as report:
        size = local("a file with a template", report).export_template(name, target)
    _tell(target, size, as_json)


def export_vm(
    name: Annotated[str, typer.Argument(help="The vm.", autocompletion=complete_vm, show_default=False)],
    target: Target,
    as_json: Json = False,
) -> None:
    """Write a vm into one file, with checksums: its disks as they are now, running or not.

    'appcat template import' makes a template of it, here or elsewhere, and vms of that begin where this one was.

    \b
    Example:
      appcat vm export web web.appcat
    """
    from appcat.cli.engine import local
    from appcat.cli.output import progress

    with progress() as report:
        size = local("a file with a vm", report).export_vm(name, target)
    _tell(target, size, as_json)


def import_(
    source: Annotated[Path, typer.Argument(help="The file.", metavar="FILE", show_default=False)],
    name: Annotated[str, typer.Option("--name", help="What to call it.", show_default="the name it has")] = "",
    as_json: Json = False,
) -> None:
    """Take over a template from a file that 'template export' or 'vm export' wrote. Every byte is checked.

    \b
    Example:
      appcat template import debian.appcat --name mine
    """
    from appcat.cli.engine import local
    from appcat.cli.output import print_json, progress, say

    with progress() as report:
        image = local("a file with a template", report).import_template(source, name)
    if as_json:
        print_json(image)
    else:
        say(f"{image['template']} {image['digest'][:12]}")


def publish(
    directory: Annotated[Path, typer.Argument(help="Where the files go.", show_default=False)],
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Templates.", show_default="all that came with appcat", autocompletion=complete_template),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a set of images that other hosts take theirs from, instead of building them.

    They are files and an index; put them on a web server, or leave them where they are. Prints what to tell the others.

    \b
    Examples:
      appcat template publish /srv/appcat
      appcat config set prebuilt https://HOST/appcat-images.json#sha256=DIGEST
    """
    from dataclasses import asdict

    from appcat.cli.engine import local
    from appcat.cli.output import print_json, print_table, progress, say
    from appcat.model.size import format_size
    from appcat.services.template_publish import publish as publish_templates

    with progress() as report:
        done = publish_templates(local("a set of templates", report).context, directory, names or [])
    if as_json:
        print_json({"prebuilt": str(done.pin), "images": [asdict(image) for image in done.images]})
        return
    rows = [[image.template, str(image.arch), format_size(image.size), image.file] for image in done.images]
    print_table(["TEMPLATE", "FOR", "SIZE", "FILE"], rows, right=["SIZE"])
    say(f"appcat config set prebuilt '{done.pin}'")


def _tell(target: Path, size: int, as_json: bool) -> None:
    from appcat.cli.output import print_json, say
    from appcat.model.size import format_size

    if as_json:
        print_json({"file": str(target), "size": size})
    else:
        say(f"{target} {format_size(size)}")
