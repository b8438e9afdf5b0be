"""``appcat vm edit``, ``rename`` and ``label``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from appcat.cli.options import Json, Name
from appcat.model.vm import RestartPolicy

if TYPE_CHECKING:
    from appcat.model.shapes import VmInfo


def edit(
    name: Name,
    cpus: Annotated[int | None, typer.Option("--cpus", help="Virtual CPUs.")] = None,
    memory: Annotated[str | None, typer.Option("--memory", "-m", help="Memory, such as 512M or 2G.")] = None,
    restart: Annotated[RestartPolicy | None, typer.Option("--restart", help="What to do when it ends.")] = None,
    autostart: Annotated[
        bool | None, typer.Option("--autostart/--no-autostart", help="Bring it back after a host reboot.")
    ] = None,
    disk: Annotated[
        list[str] | None, typer.Option("--disk", metavar="NAME=SIZE", help="Make a disk larger, at once.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Change a vm. Processors and memory need a stopped one.

    A disk grows while the vm runs, and so does the file system on it.

    \b
    Examples:
      appcat vm edit web --memory 1G --cpus 2
      appcat vm edit web --disk data=40G
      appcat vm edit web --restart always --autostart
    """
    from appcat.cli.engine import engine
    from appcat.cli.output import progress
    from appcat.cli.request import parse_disks
    from appcat.model.size import parse_memory
    from appcat.services.edit import Changes

    changes = Changes(
        cpus, None if memory is None else parse_memory(memory), restart, autostart, parse_disks(disk or [])
    )
    with progress() as report:
        _print(engine(report).edit(name, changes), as_json)


def rename(
    name: Name,
    new: Annotated[str, typer.Argument(help="Its name from now on.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Give a stopped vm, and its guest, another name. All else stays."""
    from appcat.cli.engine import engine

    _print(engine().rename(name, new), as_json)


def label(
    name: Name,
    labels: Annotated[
        list[str] | None, typer.Argument(help="KEY=VALUE sets a label, KEY- takes one away.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Set labels, take some away, or, without any, list them.

    \b
    Examples:
      appcat vm label web role=frontend tier-
      appcat vm label web
    """
    from appcat.cli.engine import engine
    from appcat.cli.output import print_json, say
    from appcat.cli.request import parse_labels
    from appcat.model.name import check_label_key

    given = labels or []
    removed = [check_label_key(text[:-1]) for text in given if "=" not in text and text.endswith("-")]
    added = parse_labels([text for text in given if "=" in text or not text.endswith("-")])
    found = engine().label(name, added, removed)
    if as_json:
        print_json(found)
    elif given:
        say(name)
    else:
        for key, value in found.items():
            say(f"{key}={value}")


def _print(vm: VmInfo, as_json: bool) -> None:
    from appcat.cli.output import print_json, say

    if as_json:
        print_json(vm)
    else:
        say(vm["name"])
