"""The screen of ``vm top``: the busiest vms first, as many as fit, the sum above them."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from appcat.cli.output import narrowed
from appcat.cli.vm_stats import COLUMNS, row
from appcat.cli.vm_view import STYLES
from appcat.errors import InvalidInput
from appcat.model.shapes import StatsInfo
from appcat.model.size import format_size

HEAD_LINES = 4  # two of the sum, one of the table's head, one that the cursor takes


def watch(look: Callable[[], StatsInfo], interval: float, *, with_load: bool) -> None:
    """Until q or an interrupt, ``interval`` seconds between looks; raises InvalidInput without a terminal.

    ``with_load`` shows that of this computer, which says something where the vms are its own.
    """
    if not sys.stdout.isatty():
        raise InvalidInput("top needs a terminal", hint="use: appcat vm stats --json")
    console = Console()
    with contextlib.suppress(KeyboardInterrupt), _keys() as pressed:
        time.sleep(min(interval, 0.5))
        with Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                live.update(screen(look(), console.height, console.width, with_load=with_load), refresh=True)
                if pressed(interval):
                    return


def screen(found: StatsInfo, height: int, width: int = 80, *, with_load: bool = True) -> RenderableType:
    """What a terminal of so many lines and columns shows."""
    ordered = sorted(found["vms"], key=lambda usage: (-usage["cpu"], -usage["memory"], usage["name"]))
    room = max(height - HEAD_LINES, 1)
    table = Table(box=None, pad_edge=False, header_style="reverse")
    for number, column in enumerate(COLUMNS):
        table.add_column(column, justify="left" if number < 2 else "right", no_wrap=True, overflow="ellipsis")
    for cells in narrowed(COLUMNS, [row(usage) for usage in ordered[:room]], width):
        table.add_row(cells[0], Text(cells[1], style=STYLES.get(cells[1], "")), *cells[2:])
    return Group(_summary(found, len(ordered) - room, with_load), table)


def _summary(found: StatsInfo, hidden: int, with_load: bool) -> Text:
    everything = found["total"]
    running = sum(1 for usage in found["vms"] if usage["memory"])
    load = f"   load {os.getloadavg()[0]:.2f}" if with_load else ""
    lines = [
        f"{len(found['vms'])} vms, {running} running{load}   {time.strftime('%H:%M:%S')}   q to quit",
        f"cpu {everything['cpu']:.1f} %   memory {format_size(everything['memory'])}"
        f" (guests {format_size(everything['memory_limit'])})   disk {format_size(everything['disk'])}"
        + (f"   {hidden} more do not fit" if hidden > 0 else ""),
    ]
    return Text("\n".join(lines))


@contextlib.contextmanager
def _keys() -> Iterator[Callable[[float], bool]]:
    """A function that waits so many seconds and says whether q was pressed."""
    if not sys.stdin.isatty():
        yield _sleep
        return
    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)

    def pressed(seconds: float) -> bool:
        readable, _, _ = select.select([sys.stdin], [], [], seconds)
        return bool(readable) and os.read(sys.stdin.fileno(), 16)[:1].lower() in (b"q", b"\x1b")

    try:
        yield pressed
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return False
