"""Joining a command in a guest to this process's own streams."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from appcat.cli.output import print_error
from appcat.errors import DeadlineExceeded, InvalidInput
from appcat.guest.remote import Streams
from appcat.services.context import Context
from appcat.services.execute import execute

TIMED_OUT, NOBODY_READS = 124, 141


def run_command(ctx: Context, name: str, command: Sequence[str], timeout: float | None = None) -> int:
    """Run ``command`` in the guest of ``name``; its exit status, or 124 (as timeout(1)) when it took too long."""
    if not command:
        raise InvalidInput("there is no command to run", hint=f"appcat vm exec {name} -- COMMAND")
    stdin = sys.stdin.buffer if sys.stdin else None
    streams = Streams(stdin, sys.stdout.buffer, sys.stderr.buffer)
    try:
        return execute(ctx, name, command, streams, timeout=timeout)
    except BrokenPipeError:
        return NOBODY_READS
    except DeadlineExceeded as error:
        if timeout is None:
            raise
        print_error(error, as_json=False)
        return TIMED_OUT
