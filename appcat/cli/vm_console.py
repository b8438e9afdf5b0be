"""``appcat vm console``."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from appcat.cli.options import Name

if TYPE_CHECKING:
    from appcat.engine import ConsoleLine
    from appcat.services.console import Ending

DetachKey = Annotated[str, typer.Option("--detach-key", help="The key that leaves the console: ctrl- and a character.")]


def console(name: Name, detach_key: DetachKey = "ctrl-]") -> None:
    """Be at the serial line of a running vm; Ctrl-] leaves it.

    What is piped in is typed there; it ends when the guest has nothing more to say.
    """
    from appcat.cli.engine import engine
    from appcat.cli.output import note
    from appcat.cli.terminal import is_terminal
    from appcat.services.console import Ending, NobodyReads, parse_detach_key

    key = parse_detach_key(detach_key)
    typing = is_terminal(sys.stdin)
    try:
        with engine().console(name) as line:
            if typing:
                note(f"this is the console of {name}; {detach_key.capitalize()} leaves it")
            ending = _join(line, key if typing else None)
    except NobodyReads:
        raise typer.Exit(141) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    if ending is not Ending.INPUT_ENDED:
        note(f"left the console of {name}" if ending is Ending.DETACHED else f"{name} has stopped")


def _join(line: ConsoleLine, detach: bytes | None) -> Ending:
    from appcat.cli.terminal import raw, standard_input, unbuffered
    from appcat.services.console import Ends

    with unbuffered(sys.stdout) as out:
        ends = Ends(standard_input(), out, detach)
        with raw(sys.stdin.fileno()) if detach else contextlib.nullcontext():
            ending = line.join(ends)
    if detach:
        sys.stderr.write("\n")  # the guest's cursor is anywhere
    return ending
