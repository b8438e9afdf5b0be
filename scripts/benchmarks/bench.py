"""What every benchmark is given: a home, the services, a place for words on the way."""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from appcat.app import App
from appcat.errors import AppcatError
from appcat.services.context import Context
from appcat.services.delete import delete


@dataclass(frozen=True)
class Bench:
    """A home of its own and an image cache that may be shared with the tests."""

    home: Path
    cache: Path
    count: int
    quiet: bool

    @property
    def env(self) -> dict[str, str]:
        """The environment for programs that are to work on this home."""
        return {**os.environ, "APPCAT_HOME": str(self.home), "APPCAT_CACHE": str(self.cache)}

    @cached_property
    def context(self) -> Context:
        """The services' context of this home."""
        os.environ.update(APPCAT_HOME=str(self.home), APPCAT_CACHE=str(self.cache))
        return App.load().context

    def keep_docker_contexts_apart(self) -> None:
        """The user's own docker CLI is not to hear of what is measured."""
        os.environ["DOCKER_CONFIG"] = str(self.home / "docker")

    def say(self, text: str) -> None:
        """What is being measured, on standard error."""
        if not self.quiet:
            print(f"... {text}", file=sys.stderr)

    def remove(self, name: str) -> None:
        """Delete a vm, running or not."""
        delete(self.context, name, force=True)

    def clean_up(self) -> None:
        """Delete every vm of the home."""
        for name in self.context.store.names():
            with contextlib.suppress(AppcatError):
                self.remove(name)
