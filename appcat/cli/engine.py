"""Which appcat a command is for: that of this process, or one behind a daemon (``services.contexts``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appcat.errors import InvalidInput
from appcat.services import contexts
from appcat.services.context import Progress, silent
from appcat.settings import Settings
from appcat.store.layout import Layout

if TYPE_CHECKING:
    from appcat.app import App
    from appcat.engine import Engine


def engine(progress: Progress = silent) -> Engine:
    """What the command is for; raises InvalidInput, NotFound, Broken for a choice that makes no sense."""
    layout = Layout(Settings.load())
    name, remote = contexts.chosen(layout)
    if remote is None:
        return _app(progress)
    from appcat.client import Client

    return Client.of(layout, name, remote, progress)


def is_remote() -> bool:
    """Whether the command is for another appcat than that of this process. Raises as ``engine``."""
    return contexts.chosen(Layout(Settings.load()))[1] is not None


def local(what: str, progress: Progress = silent) -> App:
    """The appcat of this process, for ``what`` makes no sense elsewhere; raises InvalidInput where it is not chosen."""
    name, remote = contexts.chosen(Layout(Settings.load()))
    if remote is not None:
        raise InvalidInput(
            f"{what} is for the appcat of this computer alone, and {name or remote.url} is chosen",
            hint="add --context local, or log in there to do it",
            code="local-only",
        )
    return _app(progress)


def _app(progress: Progress) -> App:
    from appcat.app import App

    return App.load(progress)
