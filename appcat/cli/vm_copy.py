"""``appcat vm cp``."""

from __future__ import annotations

from typing import Annotated

import typer

from appcat.cli.options import Json, Quiet

MOST_NOTES = 10

Paths = Annotated[
    list[str],
    typer.Argument(metavar="SOURCE... TARGET", help="VM:PATH, or a path of this computer.", show_default=False),
]


def cp(sources_and_target: Paths, quiet: Quiet = False, as_json: Json = False) -> None:
    """Copy files into a guest or out of it.

    As cp -r does, directories too. Into TARGET where that is a directory, else under that name. Relative paths in a
    guest begin at the home directory.

    \b
    Examples:
      appcat vm cp site web:/srv/
      appcat vm cp web:/var/log/messages web:/etc/passwd .
    """
    from appcat.cli.engine import engine
    from appcat.cli.output import note, print_json, progress
    from appcat.errors import InvalidInput
    from appcat.model.size import format_size
    from appcat.services.copy import Place

    if len(sources_and_target) < 2:
        raise InvalidInput("there is no target", hint="appcat vm cp SOURCE... TARGET")
    *sources, target = [Place.parse(text) for text in sources_and_target]
    with progress(quiet) as report:
        done = engine(report).copy(sources, target)
    files, skipped = done["files"], done["skipped"]
    for text in () if quiet else skipped[:MOST_NOTES]:
        note(f"left out: {text}")
    if len(skipped) > MOST_NOTES and not quiet:
        note(f"left out: {len(skipped) - MOST_NOTES} more")
    if as_json:
        print_json({"files": files, "bytes": done["bytes"]})
    elif not quiet:
        note(f"copied {files} file{'s' if files != 1 else ''}, {format_size(done['bytes'])}")
