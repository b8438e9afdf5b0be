"""``appcat vm stats`` and ``top``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from appcat.cli.complete import complete_vm
from appcat.cli.options import Json

if TYPE_CHECKING:
    from collections.abc import Callable

    from appcat.engine import Engine
    from appcat.model.shapes import StatsInfo, UsageInfo

SomeNames = Annotated[
    list[str] | None,
    typer.Argument(help="Names of vms; all when none is given.", show_default=False, autocompletion=complete_vm),
]
# MEMORY and DISK are what is taken of this host, GUEST and SIZE what the guest sees of it.
COLUMNS = ["NAME", "STATUS", "CPU", "MEMORY", "GUEST", "DISK", "SIZE", "UP"]


def stats(names: SomeNames = None, as_json: Json = False) -> None:
    """Show what each vm takes of this host, and the sum.

    Processor time, proportional memory, disk.
    """
    from appcat.cli.engine import engine
    from appcat.cli.output import print_json, print_table
    from appcat.cli.vm_view import STYLES

    found = engine().stats(names or None)
    if as_json:
        print_json(found)
    else:
        rows = [row(usage) for usage in (*found["vms"], found["total"])]
        print_table(COLUMNS, rows, STYLES, right=COLUMNS[2:], cut_names=True)


def top(
    names: SomeNames = None,
    interval: Annotated[float, typer.Option("--interval", "-d", min=0.2, max=60, help="Seconds between looks.")] = 2.0,
) -> None:
    """Watch what the vms take, the busiest first. Ends with q or Ctrl-C."""
    from appcat.cli.engine import engine, is_remote
    from appcat.cli.top import watch

    watch(_look(engine(), names or None), interval, with_load=not is_remote())


def _look(appcat: Engine, names: list[str] | None) -> Callable[[], StatsInfo]:
    """What shows the usage: of this computer's vms since the look before, of others' during half a second."""
    from appcat.app import App

    if not isinstance(appcat, App):
        return lambda: appcat.stats(names)
    from appcat.services.describe import describe_usages
    from appcat.services.stats import Sampler, total

    sampler = Sampler(appcat.context, names)

    def look() -> StatsInfo:
        usages = sampler.sample()
        return describe_usages(usages, total(usages))

    look()  # the first knows no processor use
    return look


def row(usage: UsageInfo) -> list[str]:
    """One line of the table."""
    from appcat.model.size import format_size

    alive = usage["memory"] > 0
    return [
        usage["name"],
        usage["status"],
        f"{usage['cpu']:.1f} %" if alive else "",
        format_size(usage["memory"]) if alive else "",
        format_size(usage["memory_limit"]) if alive else "",
        format_size(usage["disk"]) if usage["disk_limit"] else "",
        format_size(usage["disk_limit"]) if usage["disk_limit"] else "",
        uptime(usage["uptime"]) if usage["uptime"] else "",
    ]


def uptime(seconds: float) -> str:
    """``3d04h``, ``2h05m``, ``7m01s``, ``9s``."""
    days, hours, minutes, rest = int(seconds) // 86400, int(seconds) // 3600 % 24, int(seconds) // 60 % 60, int(seconds)
    if days:
        return f"{days}d{hours:02}h"
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{rest % 60:02}s" if minutes else f"{rest}s"
