"""Bases: frozen running vms, a directory each. Nothing that is to survive a reboot of the host needs them.

A QEMU that maps a base's memory holds its ``use.lock``, shared, through a descriptor it inherited: taken before it
starts, gone when it dies, never counted and never stale. A base that nobody uses can be locked exclusively, and so be
removed.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from appcat.errors import AppcatError, NotFound
from appcat.model import base, codec
from appcat.store import locks
from appcat.store.files import make_private_directory, remove_tree, unlink, write_atomic
from appcat.store.layout import BasePaths, Layout

KIND = codec.Kind("base.json", base.SCHEMA)
YOUNG = 60.0
REMOVAL_PATIENCE = 10.0
GONE_PREFIX = ".gone-"


class BaseStore:
    """Reads, makes and removes bases."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def ids(self) -> list[str]:
        """Every base, those being made included."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self._layout.bases) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
        return []

    def disk_files(self) -> list[Path]:
        """Disks in the directories of bases: of those being made, nothing else says what they stand on."""
        return [path for identifier in self.ids() for path in self._layout.base(identifier).disks.glob("*.qcow2")]

    def load(self, identifier: str) -> base.Base | None:
        """The base, or None when it is being made, gone or damaged."""
        try:
            text = self._layout.base(identifier).spec.read_text(encoding="utf-8")
            found = codec.loads(base.Base, text, KIND)
        except (OSError, UnicodeDecodeError, AppcatError):
            return None
        memory = Path(found.memory)
        return found if memory.exists() and self._layout.base(identifier).state.exists() else None

    def all(self) -> list[base.Base]:
        """Every sound base."""
        return [found for identifier in self.ids() if (found := self.load(identifier)) is not None]

    @contextlib.contextmanager
    def making(self) -> Iterator[tuple[str, BasePaths]]:
        """The id and directory of a new base, which is removed again unless it was published."""
        identifier = secrets.token_hex(8)
        paths = self._layout.base(identifier)
        make_private_directory(paths.root)
        try:
            with locks.hold(paths.maker_lock, "make a base"):
                yield identifier, paths
        finally:
            if self.load(identifier) is None:
                self._remove(identifier)

    def publish(self, new: base.Base) -> None:
        """Complete a base."""
        write_atomic(self._layout.base(new.id).spec, codec.dumps(new, KIND), durable=False)

    def use(self, identifier: str) -> int:
        """A descriptor that keeps the base from going, for whoever inherits it; raises NotFound when it has gone."""
        paths = self._layout.base(identifier)
        try:
            descriptor = locks.open_lock(paths.use_lock)
        except NotFound as error:
            raise _gone(identifier) from error
        if locks.try_lock(descriptor, shared=True) and paths.root.is_dir():
            return descriptor
        os.close(descriptor)
        raise _gone(identifier)

    def remove_if_unused(self, identifier: str) -> bool:
        """Remove the base unless a QEMU or a command uses it; whether it is gone.

        Somebody else may be at it: then this waits, so that what it stood on can be swept whoever of the two comes
        to that.
        """
        paths = self._layout.base(identifier)
        try:
            descriptor = locks.open_lock(paths.use_lock)
        except NotFound:
            return False
        try:
            if not locks.try_lock(descriptor):
                if locks.try_lock(descriptor, shared=True):  # beside others who use it
                    return False
                if not locks.lock_within(descriptor, REMOVAL_PATIENCE):
                    return False
            if paths.root.is_dir():
                self._remove(identifier)
            return True
        finally:
            os.close(descriptor)

    def is_being_made(self, identifier: str) -> bool:
        """Whether its maker lives; or, its directory being young, may be about to take the lock."""
        paths = self._layout.base(identifier)
        if locks.is_held(paths.maker_lock):
            return True
        try:
            return not paths.maker_lock.exists() and time.time() - paths.root.stat().st_mtime < YOUNG
        except FileNotFoundError:
            return False

    def _remove(self, identifier: str) -> None:
        paths = self._layout.base(identifier)
        gone = paths.root.with_name(f"{GONE_PREFIX}{identifier}")
        with contextlib.suppress(FileNotFoundError):
            paths.root.rename(gone)  # at once for whoever looks; what a kill leaves of it is swept
        if paths.memory_backed:
            unlink(paths.memory_backed)
        remove_tree(gone)

    def sweep_removed(self) -> bool:
        """Finish removals that were cut off, and say whether there were any; memory without a base is of nobody."""
        left_over = list(self._layout.bases.glob(f"{GONE_PREFIX}*"))
        for left in left_over:
            self._remove(left.name.removeprefix(GONE_PREFIX))
        memory = self._layout.settings.memory
        for file in memory.iterdir() if memory and memory.is_dir() else ():
            if not self._layout.base(file.name).root.exists():
                unlink(file)
        return bool(left_over)


def _gone(identifier: str) -> NotFound:
    return NotFound(f"the base {identifier} is gone", hint="try again: a new one is made", code="base-not-found")
