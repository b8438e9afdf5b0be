"""``appcat vm exec``."""

from __future__ import annotations

from typing import Annotated

import typer

from appcat.cli.options import WEEK, Name


def exec_(
    name: Name,
    command: Annotated[list[str], typer.Argument(help="The command, after --.", show_default=False)],
    interactive: Annotated[
        bool, typer.Option("--interactive", "-i", help="Pass standard input on. It always is: this is for habit.")
    ] = False,
    terminal: Annotated[
        bool, typer.Option("--tty", "-t", help="Run it on a terminal of its own, as a shell or an editor needs.")
    ] = False,
    timeout: Annotated[
        float | None, typer.Option("--timeout", min=0.1, max=WEEK, help="Seconds until it is ended.")
    ] = None,
) -> None:
    """Run a command in a guest.

    Its streams and exit status are passed on.

    \b
    Examples:
      appcat vm exec web -- uname -a
      appcat vm exec -it web -- sh
      tar c . | appcat vm exec web -- tar x -C /srv
    """
    from appcat.cli.engine import engine
    from appcat.cli.execute import run_command

    raise typer.Exit(run_command(engine(), name, command, timeout, terminal=terminal))
