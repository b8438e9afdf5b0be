"""``appcat vm logs``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from appcat.cli.options import Json, Name
from appcat.services.logs import Source


def logs(
    name: Name,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the vm ends.")] = False,
    tail: Annotated[
        int | None, typer.Option("--tail", "-n", min=0, help="Only the last lines, so many.", show_default="all")
    ] = None,
    source: Annotated[Source, typer.Option("--source", help="Whose words.")] = Source.CONSOLE,
    as_json: Json = False,
) -> None:
    """Print what a vm's serial line, its QEMU or the keeper said.

    On a terminal, what would move the cursor or change the terminal is left out. With --json, one object per line.

    \b
    Examples:
      appcat vm logs web --tail 20
      appcat vm logs -f web --source qemu
    """
    from appcat.cli.engine import engine
    from appcat.cli.output import note

    def lost() -> None:
        note("some lines are missing here: the log was cut faster than it was read")

    pieces = engine().logs(name, source, tail=tail, follow=follow, lost=lost)
    try:
        print_log(pieces, as_json)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except BrokenPipeError:
        raise typer.Exit(141) from None


def print_log(pieces: Iterator[bytes], as_json: bool) -> None:
    """Print a log as it comes: harmless on a terminal, as it is elsewhere, or a JSON object per line."""
    import sys

    from appcat.cli.terminal import is_terminal, unbuffered
    from appcat.guest.remote import write_all

    terminal = is_terminal(sys.stdout) and not as_json
    with unbuffered(sys.stdout) as out:
        for text in _objects(pieces) if as_json else _harmless(pieces) if terminal else pieces:
            write_all(out, text)


def _objects(pieces: Iterator[bytes]) -> Iterator[bytes]:
    import json

    from appcat.services.logs import lines

    for line in lines(pieces):
        text = line.decode(errors="replace").rstrip("\r\n")
        yield json.dumps({"line": text}, ensure_ascii=False).encode() + b"\n"


def _harmless(pieces: Iterator[bytes]) -> Iterator[bytes]:
    from appcat.cli.printable import Printable

    printable = Printable()
    for piece in pieces:
        yield printable.feed(piece).encode()
    yield printable.feed(b"", final=True).encode()
