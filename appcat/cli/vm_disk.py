"""``appcat vm disk ...``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from appcat.cli.lazy import group_of
from appcat.cli.options import Json, Name, Yes

if TYPE_CHECKING:
    from appcat.model.shapes import DiskInfo

DiskName = Annotated[str, typer.Argument(help="The disk's name.", show_default=False, metavar="DISK")]
Size = Annotated[str, typer.Argument(help="Its size, such as 2G.", show_default=False)]


def list_(name: Name, as_json: Json = False) -> None:
    """List a vm's disks.

    What the guest sees, what they take on the host, and what is below them that clones share.
    """
    from appcat.cli.engine import engine
    from appcat.cli.output import print_json, print_table
    from appcat.model.size import format_size

    found = engine().list_disks(name)
    if as_json:
        print_json(found)
        return
    rows = [
        [disk["name"], *map(format_size, (disk["size"], disk["used"], disk["shared"])), disk["file"]] for disk in found
    ]
    print_table(["DISK", "SIZE", "USED", "SHARED", "FILE"], rows)


def add(name: Name, disk: DiskName, size: Size, as_json: Json = False) -> None:
    """Add an empty disk; a running guest has it at once.

    pico mounts the disk "data" at /data and any other at /disks/DISK.

    \b
    Examples:
      appcat vm disk add web logs 5G
    """
    from appcat.cli.engine import engine
    from appcat.cli.output import progress
    from appcat.model.size import parse_disk

    with progress() as report:
        _print(engine(report).add_disk(name, disk, parse_disk(size)), disk, as_json)


def remove(name: Name, disk: DiskName, yes: Yes = False, as_json: Json = False) -> None:
    """Remove a disk with all its data. Asks first on a terminal.

    While a vm runs, only a disk that was added since it started; the guest unmounts it first.
    """
    from appcat.cli.confirm import confirm
    from appcat.cli.engine import engine
    from appcat.cli.output import progress

    with progress() as report:
        appcat = engine(report)
        if any(known["name"] == disk for known in appcat.list_disks(name)):
            confirm(f"Remove disk {disk} of {name} with all its data?", yes)
        _print(appcat.remove_disk(name, disk), disk, as_json)


def grow(name: Name, disk: DiskName, size: Size, as_json: Json = False) -> None:
    """Make a disk larger; a running guest has the room at once. It cannot shrink.

    \b
    Examples:
      appcat vm disk grow web data 20G
    """
    from appcat.cli.engine import engine
    from appcat.cli.output import progress
    from appcat.model.size import parse_disk

    with progress() as report:
        _print(engine(report).grow_disk(name, disk, parse_disk(size)), disk, as_json)


def _print(disks: list[DiskInfo], disk: str, as_json: bool) -> None:
    from appcat.cli.output import print_json, say

    if as_json:
        print_json([{key: value for key, value in known.items() if key not in ("used", "shared")} for known in disks])
    else:
        say(disk)


group = group_of(
    "A vm's disks, on running vms too.",
    {
        name: f"{__name__}:{function}"
        for name, function in (("list", "list_"), ("add", "add"), ("remove", "remove"), ("grow", "grow"))
    },
)
