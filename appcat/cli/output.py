"""How the command line speaks: tables or JSON on standard output, everything else on standard error."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

INTERRUPTED = "interrupted; what has begun goes on: see 'appcat vm list'"
HEAD = len("Error: ")
LEAST_NAME = 12

if TYPE_CHECKING:
    from appcat.cli.bars import Bars
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


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    styles: dict[str, str] | None = None,
    right: Sequence[str] = (),
    *,
    cut_names: bool = False,
) -> None:
    """Columns for people: with colours on a terminal, plain and aligned in a pipe.

    ``styles`` colours cell texts; the columns named in ``right`` are numbers. ``cut_names`` lets a terminal that is too
    narrow show the first column in part.
    """
    if not sys.stdout.isatty():
        _print_plain(columns, rows, right)
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        justify: Any = "right" if column in right else "left"
        table.add_column(column, overflow="fold", justify=justify, no_wrap=cut_names and column != columns[-1])
    console = Console(color_system="auto" if _colours(sys.stdout) else None)
    for row in narrowed(columns, rows, console.width) if cut_names else rows:
        cells = (escape(cell) for cell in row)
        table.add_row(*(f"[{styles[cell]}]{cell}[/]" if styles and cell in styles else cell for cell in cells))
    console.print(table)


def narrowed(columns: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> list[Sequence[str]]:
    """The rows with first cells cut where ``width`` has no room for them; last cells can go on below, word by word."""
    others = sum(max(_breadth(row[index]) for row in (columns, *rows)) + 2 for index in range(1, len(columns) - 1))
    last = max(len(word) for row in (columns, *rows) for word in (row[-1].split() or [""])) + 2
    room = max(width - others - last, LEAST_NAME)
    return [[shortened(row[0], room), *row[1:]] for row in rows]


def _breadth(cell: str) -> int:
    """The length of its longest line."""
    return max(len(line) for line in cell.split("\n"))


def shortened(name: str, room: int) -> str:
    """Without its middle where it is too long: names that belong together often begin alike."""
    if len(name) <= room:
        return name
    end = (room - 1) // 2
    return f"{name[: room - 1 - end]}…{name[-end:]}"


def fitted(text: str, stream: TextIO, indent: int = 0) -> str:
    """On a terminal, ``text`` in lines of whole words, all but the first indented; elsewhere as it is."""
    if not stream.isatty():
        return text
    import textwrap

    from appcat.cli.terminal import size

    columns = max(size(stream.fileno())[0], 2 * indent)
    lines = textwrap.wrap(text, columns - indent, break_long_words=False, break_on_hyphens=False)
    return f"\n{' ' * indent}".join(lines)


def _print_plain(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str]) -> None:
    widths = [max(len(row[index]) for row in (columns, *rows)) for index in range(len(columns))]
    for row in (columns, *rows):
        cells = (
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, cell, width in zip(columns, row, widths, strict=True)
        )
        print("  ".join(cells).rstrip())


def print_error(error: AppcatError, *, as_json: bool) -> None:
    """What happened and what to do, on standard error."""
    if as_json:
        body = {"code": error.code, "message": error.message, "hint": error.hint, "details": error.details}
        print(json.dumps(body), file=sys.stderr)
        return
    bold, dim, end = ("\033[1;31m", "\033[2m", "\033[0m") if _colours(sys.stderr) else ("", "", "")
    print(f"{bold}Error:{end} {fitted(error.message, sys.stderr, HEAD)}", file=sys.stderr)
    if error.hint:
        print(f"Hint:  {fitted(error.hint, sys.stderr, HEAD)}", file=sys.stderr)
    if error.details and error.details.strip() != error.message:
        print(f"{dim}{_indent(error.details)}{end}", file=sys.stderr)


def _indent(text: str) -> str:
    return "\n".join(f"  | {line}" for line in text.rstrip().splitlines())


def _colours(stream: Any) -> bool:
    return bool(stream.isatty()) and not os.environ.get("NO_COLOR")


@contextlib.contextmanager
def progress(quiet: bool = False) -> Iterator[Progress]:
    """A progress callback: a moving line on a terminal, each step once on anything else, nothing when ``quiet``."""
    try:
        with _silence() if quiet else _moving() if sys.stderr.isatty() else _plain() as report:
            yield report
    except KeyboardInterrupt:
        note(INTERRUPTED)
        raise


@contextlib.contextmanager
def _silence() -> Iterator[Progress]:
    yield lambda _step, _done, _total: None


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
    """What is under way: a spinner, and where the end is known a bar with how much, how fast and how long still."""
    bars: list[Bars] = []

    def report(step: str, done: int, total: int) -> None:
        if not bars:
            from appcat.cli.bars import Bars

            bars.append(Bars())
        bars[0].show(step, done, total)

    try:
        yield report
    finally:
        for bar in bars:
            bar.close()
