"""``appcat template ...``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from appcat.services.templates import TemplateInfo

app = typer.Typer(help="Recipes that images are built from.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the templates and whether they are built."""
    from appcat.app import App
    from appcat.cli.output import print_json, print_table
    from appcat.model.size import format_size
    from appcat.services import templates

    found = templates.list_templates(App.load().context)
    if as_json:
        print_json([_describe(info) for info in found])
        return
    rows = []
    for info in found:
        size = format_size(info.image.image.compressed_size) if info.image else "not built"
        digest = info.image.image.digest[:12] if info.image else ""
        rows.append([info.name, size, digest, info.problem or info.description])
    print_table(["NAME", "SIZE", "IMAGE", "DESCRIPTION"], rows)


@app.command()
def build(
    name: Annotated[str, typer.Argument(help="The template.")] = "pico",
    as_json: Json = False,
) -> None:
    """Build a template's image from the distribution's packages as they are now.

    Nothing changes when nothing has changed: the same packages give the same image.
    """
    from appcat.app import App
    from appcat.cli.output import print_json, progress, say
    from appcat.model.codec import encode
    from appcat.model.size import format_size
    from appcat.services import templates

    with progress() as report:
        stored = templates.build(App.load(report).context, name)
    if as_json:
        print_json({**encode(stored.image), "directory": str(stored.directory)})
        return
    image = stored.image
    say(f"{image.template} {image.digest[:12]}")
    say(f"  kernel + initramfs   {format_size(image.kernel.size)} + {format_size(image.initramfs.size)}")
    say(f"  decompressed (cache) {format_size(image.vmlinux.size)} + {format_size(image.rootfs.size)}")
    say(f"  packages             {len(image.packages)}")
    say(f"  in                   {stored.directory}")


def _describe(info: TemplateInfo) -> dict[str, Any]:
    from appcat.model.codec import encode

    return {
        "name": info.name,
        "description": info.description,
        "directory": str(info.directory),
        "problem": info.problem,
        "image": encode(info.image.image) if info.image else None,
    }
