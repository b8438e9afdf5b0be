"""Measurements against baselines, as a table or as JSON."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Result:
    """One figure. ``ratio`` is the median of the pairs' ratios; ``bar`` the most it may be, if there is one.

    With ``least`` it is the least that it may be.
    """

    name: str
    value: float
    baseline: float | None
    ratio: float | None
    unit: str
    bar: float | None
    ok: bool
    spread: str = ""
    least: bool = False


def pairs(
    name: str, ours: Callable[[], float], raw: Callable[[], float], count: int, bar: float | None, unit: str = "s"
) -> Result:
    """Measure ``ours`` and ``raw`` alternately, ``count`` times each, and compare pair by pair."""
    measured = [(ours(), raw()) if number % 2 else (raw(), ours())[::-1] for number in range(count)]
    return paired(name, measured, bar, unit)


def paired(
    name: str, measured: list[tuple[float, float]], bar: float | None, unit: str = "s", *, least: bool = False
) -> Result:
    """The result of pairs (ours, baseline) that were measured already."""
    ratios = sorted(mine / other for mine, other in measured)
    ratio = statistics.median(ratios)
    value = statistics.median(mine for mine, _ in measured)
    baseline = statistics.median(other for _, other in measured)
    spread = f"{ratios[0]:.2f}..{ratios[-1]:.2f}"
    ok = bar is None or (ratio >= bar if least else ratio <= bar)
    return Result(name, round(value, 4), round(baseline, 4), round(ratio, 3), unit, bar, ok, spread, least)


def figure(name: str, value: float, unit: str, bar: float | None = None) -> Result:
    """A figure that stands alone; ``bar`` is the most it may be."""
    return Result(name, round(value, 4), None, None, unit, bar, bar is None or value <= bar)


def as_json(results: list[Result]) -> str:
    """The list of results as one JSON document."""
    keys = ("name", "value", "baseline", "ratio", "unit", "bar", "ok")
    return json.dumps([{key: asdict(result)[key] for key in keys} for result in results], indent=2)


def as_table(results: list[Result]) -> str:
    """The results, one a line, aligned."""
    head = ("what", "ours", "baseline", "ratio", "spread", "bar", "ok")
    rows = [head, *(_row(result) for result in results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _row(result: Result) -> tuple[str, ...]:
    baseline = "" if result.baseline is None else f"{result.baseline:g} {result.unit}"
    ratio = "" if result.ratio is None else f"{result.ratio:.2f}"
    bar = "" if result.bar is None else f"{'>= ' if result.least else ''}{result.bar:g}"
    verdict = "" if result.bar is None else ("yes" if result.ok else "NO")
    return (result.name, f"{result.value:g} {result.unit}", baseline, ratio, result.spread, bar, verdict)
