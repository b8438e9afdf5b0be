"""How the command line speaks: tables or JSON on standard output, everything else on standard error."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

INTERRUPTED = "interrupted; what has begun goes on: see 'appcat vm list'"

if TYPE_CHECKING:
    from rich.status import Status

    from appcat.errors import AppcatError
    from appcat.services.context import Progress


def print_json(data: Any) -> None:
    """One JSON document."""
    print(json.dumps(data, indent=2, ensure_ascii=False))


def say(text: str) -> None:
    """A line of result for people."""
    print(text)


def note(text: str) -> None:
    """A line that is not a result."""
    sys.stderr.write(f"{text}\n")  # one write: several threads may speak
    sys.stderr.flush()


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], styles: dict[str, str] | None = None) -> None:
    """Columns for people: with colours on a terminal, plain and aligned in a pipe. ``styles`` colours cell texts."""
    if not sys.stdout.isatty():
        _print_plain(columns, rows)
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        cells = (escape(cell) for cell in row)
        table.add_row(*(f"[{styles[cell]}]{cell}[/]" if styles and cell in styles else cell for cell in cells))
    Console().print(table)


def _print_plain(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[index]) for row in (columns, *rows)) for index in range(len(columns))]
    for row in (columns, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def print_error(error: AppcatError, *, as_json: bool) -> None:
    """What happened and what to do, on standard error."""
    if as_json:
        body = {"code": error.code, "message": error.message, "hint": error.hint, "details": error.details}
        print(json.dumps(body), file=sys.stderr)
        return
    bold, dim, end = ("\033[1;31m", "\033[2m", "\033[0m") if _colours(sys.stderr) else ("", "", "")
    print(f"{bold}Error:{end} {error.message}", file=sys.stderr)
    if error.hint:
        print(f"Hint:  {error.hint}", file=sys.stderr)
    if error.details and error.details.strip() != error.message:
        print(f"{dim}{_indent(error.details)}{end}", file=sys.stderr)


def _indent(text: str) -> str:
    return "\n".join(f"  | {line}" for line in text.rstrip().splitlines())


def _colours(stream: Any) -> bool:
    return bool(stream.isatty()) and not os.environ.get("NO_COLOR")


@contextlib.contextmanager
def progress() -> Iterator[Progress]:
    """A progress callback: a moving line on a terminal, each step once on anything else."""
    try:
        with _moving() if sys.stderr.isatty() else _plain() as report:
            yield report
    except KeyboardInterrupt:
        note(INTERRUPTED)
        raise


@contextlib.contextmanager
def _plain() -> Iterator[Progress]:
    seen: set[str] = set()

    def report_plain(step: str, _done: int, _total: int) -> None:
        if step not in seen:
            seen.add(step)
            note(step)

    yield report_plain


@contextlib.contextmanager
def _moving() -> Iterator[Progress]:
    status: list[Status] = []

    def report(step: str, done: int, total: int) -> None:
        text = f"{step} {done}/{total}" if total > 1 else step
        if not status:
            from rich.console import Console

            status.append(Console(stderr=True).status(text, spinner="dots"))
            status[0].start()
        status[0].update(text)

    try:
        yield report
    finally:
        for line in status:
            line.stop()
