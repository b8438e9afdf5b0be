"""Joining a command in a guest to this process's own streams."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import BinaryIO, TextIO

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
    # Unbuffered: what could not be written must not be tried again when the interpreter ends.
    with _unbuffered(sys.stdout) as out, _unbuffered(sys.stderr) as err:
        return _run(ctx, name, command, Streams(stdin, out, err), timeout)


def _unbuffered(stream: TextIO) -> BinaryIO:
    stream.flush()
    return os.fdopen(os.dup(stream.fileno()), "wb", buffering=0)


def _run(ctx: Context, name: str, command: Sequence[str], streams: Streams, timeout: float | None) -> int:
    try:
        return execute(ctx, name, command, streams, timeout=timeout)
    except BrokenPipeError:
        return NOBODY_READS
    except DeadlineExceeded as error:
        if timeout is None:
            raise
        print_error(error, as_json=False)
        return TIMED_OUT
