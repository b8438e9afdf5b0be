"""The terminal this process runs on: raw while a guest's terminal is shown on it, itself again whatever happens."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import struct
import sys
import termios
import tty
from collections.abc import Iterator
from types import FrameType
from typing import BinaryIO, TextIO

# What ends a process that does not listen. SIGINT and SIGTERM raise KeyboardInterrupt already (cli.main).
_FATAL = (signal.SIGHUP, signal.SIGQUIT)
DEFAULT_SIZE = (80, 24)


def is_terminal(stream: TextIO | None) -> bool:
    """Whether somebody types at, or reads, this stream."""
    return stream is not None and not stream.closed and stream.isatty()


def size(descriptor: int) -> tuple[int, int]:
    """Columns and rows of a terminal; 80x24 where it does not know."""
    with contextlib.suppress(OSError):
        rows, columns = struct.unpack("HHHH", fcntl.ioctl(descriptor, termios.TIOCGWINSZ, bytes(8)))[:2]
        if rows and columns:
            return columns, rows
    return DEFAULT_SIZE


@contextlib.contextmanager
def raw(descriptor: int) -> Iterator[None]:
    """Every key goes to the guest, none to this process, while the block runs; a signal that ends us restores first.

    SIGHUP and SIGQUIT raise KeyboardInterrupt meanwhile, as SIGINT and SIGTERM do.
    """
    before = termios.tcgetattr(descriptor)
    handlers = {number: signal.signal(number, _interrupt) for number in _FATAL}
    try:
        tty.setraw(descriptor, termios.TCSADRAIN)
        yield
    finally:
        with contextlib.suppress(OSError, termios.error):  # a terminal that hung up has nothing to restore
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def unbuffered(stream: TextIO) -> BinaryIO:
    """A descriptor of its own behind ``stream``: what could not be written must not be tried again at the end."""
    stream.flush()
    return os.fdopen(os.dup(stream.fileno()), "wb", buffering=0)


def standard_input() -> BinaryIO | None:
    """Standard input as bytes, or None where there is none."""
    return sys.stdin.buffer if sys.stdin else None


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
