"""``appcat hosts``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from appcat.cli.options import Json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from appcat.services.hosts_file import Entry, Installed


class Action(StrEnum):
    """What to do with the lines."""

    PRINT = "print"
    INSTALL = "install"
    REMOVE = "remove"


def hosts(
    action: Annotated[
        Action, typer.Argument(help="Print the lines, write them into the hosts file, or take them out of it.")
    ] = Action.PRINT,
    file: Annotated[Path, typer.Option("--file", help="The hosts file.")] = Path("/etc/hosts"),
    as_json: Json = False,
) -> None:
    """Names for this computer's hosts file: every program then knows vms by name.

    A vm whose host system gives it no address of its own is not among them. What is installed stands between markers
    that name the home; everything else in the file stays as it is, and a name that it has already is left out.

    Without the permission to change the file, the line that root would do it with is told.

    \b
    Examples:
      appcat hosts
      appcat hosts install
    """
    from appcat.cli.engine import local
    from appcat.services import hosts_file

    ctx = local("hosts").context
    if action is Action.PRINT:
        _print(hosts_file.entries(ctx), as_json)
    elif action is Action.INSTALL:
        _tell_installed(hosts_file.install(ctx, file), file, as_json)
    else:
        _tell_removed(hosts_file.remove(ctx, file), file, as_json)


def _print(entries: Sequence[Entry], as_json: bool) -> None:
    from appcat.cli.output import note, print_json, say

    if as_json:
        print_json([_described(entry) for entry in entries])
    elif entries:
        say("\n".join(map(str, entries)))
    else:
        note("no vm has an address of its own")


def _tell_installed(done: Installed, file: Path, as_json: bool) -> None:
    from appcat.cli.output import note, print_json, say

    if as_json:
        skipped = [{"name": taken.name, "address": taken.address} for taken in done.taken]
        lines = [_described(entry) for entry in done.entries]
        print_json({"file": str(file), "changed": done.changed, "hosts": lines, "skipped": skipped})
        return
    for taken in done.taken:
        note(f"left out: {file} has {taken.name} already, as {taken.address}")
    count = f"{len(done.entries)} vm" + ("" if len(done.entries) == 1 else "s")
    say(f"{file} now has the names of {count}" if done.changed else f"{file} is as it should be already")


def _tell_removed(changed: bool, file: Path, as_json: bool) -> None:
    from appcat.cli.output import print_json, say

    if as_json:
        print_json({"file": str(file), "changed": changed})
    else:
        say(f"{file} has no names of this home any more" if changed else f"{file} has no names of this home")


def _described(entry: Entry) -> dict[str, Any]:
    return {"address": entry.address, "names": list(entry.names)}
