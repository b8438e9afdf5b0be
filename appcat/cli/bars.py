"""One moving line on a terminal's standard error."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

# Steps are counted in bytes or in things; no list of things is that long.
FEWEST_BYTES = 1 << 14


class _WhereKnown(ProgressColumn):
    """Another column, shown only for tasks of one kind: ``bytes`` or ``things``."""

    def __init__(self, kind: str, column: ProgressColumn) -> None:
        super().__init__()
        self._kind, self._column = kind, column

    def render(self, task: Task) -> Text:
        if self._kind not in task.fields.get("kinds", ()):
            return Text("")
        return Text.from_markup("") + self._as_text(task)

    def _as_text(self, task: Task) -> Text:
        rendered = self._column.render(task)
        return rendered if isinstance(rendered, Text) else Text(str(rendered))


class Bars:
    """The line: the present step, and its bar where its end is known."""

    def __init__(self) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            _Bar(bar_width=20),
            _WhereKnown("bytes", DownloadColumn(binary_units=True)),
            _WhereKnown("bytes", TransferSpeedColumn()),
            _WhereKnown("things", MofNCompleteColumn()),
            _WhereKnown("end", TimeRemainingColumn(compact=True)),
            console=Console(stderr=True),
            transient=True,
        )
        self._task: TaskID | None = None
        self._step = ""
        self._progress.start()

    def show(self, step: str, done: int, total: int) -> None:
        """``done`` of ``total`` (0 or 1: no end is known) of ``step``."""
        known = total > 1
        if step != self._step or self._task is None:
            if self._task is not None:
                self._progress.remove_task(self._task)
            kinds = () if not known else ("end", "bytes" if total >= FEWEST_BYTES else "things")
            self._task = self._progress.add_task(step, total=total if known else None, kinds=kinds)
            self._step = step
        self._progress.update(self._task, completed=done if known else 0)

    def close(self) -> None:
        """Take the line away."""
        self._progress.stop()


class _Bar(BarColumn):
    """A bar, but only where the end is known."""

    def render(self, task: Task) -> object:  # type: ignore[override]
        return super().render(task) if task.total is not None else Text("")
