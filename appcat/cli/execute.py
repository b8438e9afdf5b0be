"""Joining a command in a guest to this process's own streams."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from appcat.cli.output import print_error
from appcat.errors import DeadlineExceeded, InvalidInput
from appcat.guest.remote import Streams, Terminal

if TYPE_CHECKING:
    from appcat.engine import Engine

TIMED_OUT, NOBODY_READS = 124, 141


def run_command(
    appcat: Engine, name: str, command: Sequence[str], timeout: float | None = None, *, terminal: bool = False
) -> int:
    """Run ``command`` in the guest of ``name``; its exit status, or 124 (as timeout(1)) when it took too long.

    ``terminal`` gives it a terminal there, and every key here; raises InvalidInput where nobody can type.
    """
    from appcat.cli.terminal import is_terminal, raw, standard_input, unbuffered

    if not command:
        raise InvalidInput("there is no command to run", hint=f"appcat vm exec {name} -- COMMAND")
    if terminal and not is_terminal(sys.stdin):
        raise InvalidInput(
            "-t needs a terminal, and standard input is none", hint="leave -t out to pipe something to the command"
        )
    try:
        with unbuffered(sys.stdout) as out, unbuffered(sys.stderr) as err:
            streams = Streams(standard_input(), out, err)
            if not terminal:
                return appcat.execute(name, command, streams, timeout=timeout)
            with raw(sys.stdin.fileno()):
                there = _terminal(sys.stdin.fileno())
                return appcat.execute(name, command, streams, timeout=timeout, terminal=there)
    except BrokenPipeError:
        return NOBODY_READS
    except DeadlineExceeded as error:
        if timeout is None:
            raise
        print_error(error, as_json=False)
        return TIMED_OUT


def _terminal(descriptor: int) -> Terminal:
    from appcat.cli.terminal import size

    return Terminal(os.environ.get("TERM") or "dumb", lambda: size(descriptor))
