"""The composition root: from the environment to what every service is given."""

from __future__ import annotations

from dataclasses import dataclass

from appcat.services.context import Context, Progress, silent
from appcat.settings import Settings


@dataclass(frozen=True)
class App:
    """One appcat: its settings and the context that services work in."""

    context: Context

    @classmethod
    def load(cls, progress: Progress = silent) -> App:
        """The app for this process's environment; touches no file."""
        return cls(Context(Settings.load(), progress))
