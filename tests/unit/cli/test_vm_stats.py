from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from appcat.cli.top import HEAD_LINES, screen
from appcat.cli.vm_stats import COLUMNS, row, uptime
from appcat.model.shapes import StatsInfo, UsageInfo
from appcat.model.size import GIB, MIB
from appcat.services.describe import describe_usages
from appcat.services.stats import Usage, total


def told(*usages: Usage) -> StatsInfo:
    return describe_usages(usages, total(list(usages)))


def line(usage: Usage) -> list[str]:
    found: UsageInfo = told(usage)["vms"][0]
    return row(found)


LARGEST = Usage("a" * 63, "unresponsive", 6400.0, 4 << 40, 4 << 40, 9 << 40, 16 << 40, 9999 * 86400.0)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.9, "0s"),
        (9, "9s"),
        (59.9, "59s"),
        (60, "1m00s"),
        (421, "7m01s"),
        (3599, "59m59s"),
        (3600, "1h00m"),
        (7500, "2h05m"),
        (86399, "23h59m"),
        (86400, "1d00h"),
        (273600, "3d04h"),
    ],
)
def test_time_is_told_in_the_two_largest_units(seconds: float, text: str) -> None:
    assert uptime(seconds) == text


@given(st.floats(0, 9_999 * 86400.0))
def test_time_is_short(seconds: float) -> None:
    assert len(uptime(seconds)) <= 8


def test_a_running_vm_tells_all() -> None:
    usage = Usage("web", "running", 12.345, 100 * MIB, 256 * MIB, 3 * MIB, GIB, 61)
    assert line(usage) == ["web", "running", "12.3 %", "100 MiB", "256 MiB", "3 MiB", "1 GiB", "1m01s"]


def test_what_does_not_run_has_blanks_and_not_noughts() -> None:
    assert line(Usage("web", "stopped")) == ["web", "stopped", "", "", "", "", "", ""]
    assert line(Usage("web", "stopped", disk=0, disk_limit=GIB))[5:7] == ["0 B", "1 GiB"]


def test_a_row_fits_its_columns() -> None:
    assert len(line(LARGEST)) == len(COLUMNS)


# --- vm top


def shown(usages: list[Usage], width: int = 80, height: int = 24) -> list[str]:
    """The lines of the screen."""
    console = Console(width=width, height=height, color_system=None, force_terminal=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    with console.file, console.capture() as capture:
        console.print(screen(told(*usages), height))
    return [line.rstrip() for line in capture.get().splitlines()]


def test_the_busiest_come_first() -> None:
    usages = [
        Usage("idle", "running", 0.0, 10, 10),
        Usage("off", "stopped"),
        Usage("busy", "running", 99.0, 10, 10),
        Usage("fat", "running", 0.0, 20, 20),
    ]
    lines = shown(usages)
    assert [line.split()[0] for line in lines[3:]] == ["busy", "fat", "idle", "off"]
    assert lines[0].startswith("4 vms, 3 running")


@pytest.mark.parametrize(("count", "height", "hidden"), [(20, 24, 0), (21, 24, 1), (100, 24, 80), (3, 4, 2), (3, 1, 2)])
def test_what_does_not_fit_is_counted(count: int, height: int, hidden: int) -> None:
    lines = shown([Usage(f"vm{number}", "running", 1.0, 1, 1) for number in range(count)], height=height)
    assert len(lines) <= max(height, HEAD_LINES)
    assert (f"{hidden} more do not fit" in lines[1]) is (hidden > 0)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_line_is_wider_than_the_screen(width: int) -> None:
    lines = shown([LARGEST, Usage("web", "stopped")], width)
    assert max(map(len, lines)) <= width


def test_no_vms_are_an_empty_table() -> None:
    assert shown([])[0].startswith("0 vms, 0 running")


def test_the_load_of_this_computer_is_shown_with_its_own_vms_only() -> None:
    console = Console(width=80, height=24, color_system=None)
    for with_load in (True, False):
        with console.capture() as capture:
            console.print(screen(told(Usage("web", "running")), 24, with_load=with_load))
        assert ("load" in capture.get()) is with_load
