"""``appcat template list|show``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from appcat.cli.complete import complete_template
from appcat.cli.options import Json
from appcat.errors import WrongState

if TYPE_CHECKING:
    from appcat.model.shapes import ImageInfo, TemplateInfo

INDENT = 13


def list_(as_json: Json = False) -> None:
    """List the templates and whether they are built.

    SIZE is what would travel, ON DISK what is taken here with all that can be made again.
    """
    from appcat.cli.engine import engine
    from appcat.cli.output import print_json, print_table

    found = engine().list_templates()
    if as_json:
        print_json(found)
        return
    columns = ["NAME", "SIZE", "ON DISK", "VMS", "IMAGE", "DESCRIPTION"]
    print_table(columns, [_row(known) for known in found], right=["SIZE", "ON DISK", "VMS"])


def show(
    name: Annotated[str, typer.Argument(help="The template.", autocompletion=complete_template, show_default=False)],
    sbom: Annotated[
        bool, typer.Option("--sbom", help="A bill of materials: SPDX 2.3, in JSON, of what its image is made of.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show a template, and the packages in its image with their licences.

    \b
    Examples:
      appcat template show pico
      appcat template show --sbom debian > debian.spdx.json
    """
    from appcat.cli.engine import engine
    from appcat.cli.output import fitted, print_json, print_table, say

    known = engine().show_template(name)
    if sbom:
        print_json(_sbom(known))
        return
    if as_json:
        print_json(known)
        return
    for label, value in _facts(known):
        say(fitted(f"{label:<{INDENT}}{value}", sys.stdout, INDENT))
    if image := known["image"]:
        say("")
        rows = [[item["name"], item["version"], ", ".join(item["licenses"]) or "-"] for item in image["packages"]]
        print_table(["PACKAGE", "VERSION", "LICENCES"], rows)


def _sbom(known: TemplateInfo) -> object:
    from appcat import __version__
    from appcat.model.codec import decode
    from appcat.model.image import Image
    from appcat.model.sbom import sbom
    from appcat.services.context import now

    if known["image"] is None:
        raise WrongState(
            f"template {known['name']} is not built", hint=f"appcat template build {known['name']}", code="not-built"
        )
    manifest = {key: value for key, value in known["image"].items() if key != "directory"}
    return sbom(decode(Image, manifest, "image"), now(), f"appcat-{__version__}")


def _facts(known: TemplateInfo) -> list[tuple[str, str]]:
    from appcat.model.size import format_size

    facts = [("name", known["name"]), ("description", known["problem"] or known["description"])]
    facts.append(("recipe", known["directory"]))
    image = known["image"]
    if image is None:
        return [*facts, ("image", f"not built: appcat template build {known['name']}")]
    size, used, shared = (format_size(known["size"]), format_size(known["used"]), format_size(known["shared"]))
    return [
        *facts,
        ("image", image["digest"][:12]),
        *([("base", image["base"])] if image["base"] else []),
        ("login", f"{image['login']}, over {image['ssh']}"),
        ("size", f"{size} to travel, {used} on disk, {shared} of it shared with vms"),
        *((f"disk {disk['name']}", _disk(disk["size"], disk["file"])) for disk in image["disks"]),
        ("defaults", f"{image['cpus']} CPU, {format_size(image['memory'])} memory"),
        ("vms", ", ".join(known["vms"]) or "none"),
        ("packages", str(len(image["packages"]))),
    ]


def _disk(size: int, file: object) -> str:
    from appcat.model.size import format_size

    stored = f"{format_size(file['size'])} stored" if isinstance(file, dict) else "blank"
    return f"{format_size(size)} as vms see it, {stored}"


def _row(known: TemplateInfo) -> list[str]:
    from appcat.model.size import format_size

    image: ImageInfo | None = known["image"]
    size = format_size(known["size"]) if image else "not built"
    used = format_size(known["used"]) if image else ""
    vms = str(len(known["vms"])) if image else ""
    digest = image["digest"][:12] if image else ""
    return [known["name"], size, used, vms, digest, known["problem"] or known["description"]]
