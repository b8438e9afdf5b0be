"""One build under way: what it is of, where it works, whom it tells."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from appcat.build import compiler
from appcat.build.packages import Apt
from appcat.build.recipe import Source
from appcat.checks import Check
from appcat.store.files import make_private_directory
from appcat.store.locks import hold

# Step, how much of it is done, of how much.
Progress = Callable[[str, int, int], None]

PACKAGES_WAIT = 1800.0


@dataclass(frozen=True)
class Workshop:
    """``staging`` is empty at the beginning and removed at the end; ``output`` in it is where the image's files go.

    ``fresh``: package lists are fetched anew.
    """

    source: Source
    staging: Path
    output: Path
    cache: Path
    progress: Progress
    check: Check
    fresh: bool

    def report(self, step: str) -> Callable[[int, int], None]:
        """Tells how much of ``step`` is done, of how much."""
        return lambda done, total: self.progress(step, done, total)

    def compile(self, tools: Path) -> Path:
        """The guest program, by the compiler that was unpacked in ``tools``; raises BuildError."""
        self.progress("compiling the guest program", 0, 1)
        program = self.staging / "appcat-guest"
        compiler.compile_program(self.source.guest_program, program, tools, self.source.arch)
        return program


@contextmanager
def fetching(shop: Workshop) -> Iterator[Apt]:
    """apt, with lists not older than a day, for this build alone."""
    directory = shop.cache / "packages"
    make_private_directory(directory)
    with hold(directory / "lock", "template build", wait=PACKAGES_WAIT, check=shop.check):
        apt = Apt(directory, shop.source.arch, shop.check)
        shop.progress("fetching package lists", 0, 1)
        apt.refresh(force=shop.fresh)
        yield apt
