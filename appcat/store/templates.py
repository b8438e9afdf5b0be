"""Templates of a home's own: recipes that somebody added, and images that came from a vm or a file.

::

    HOME/templates/NAME/
      template.toml ...      a recipe with its files, as it was when it was added; its image is in the cache, or
      image/                 an image that nothing can make again: manifest and files as in the cache (``store.images``)
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from appcat.errors import AppcatError, from_os_error
from appcat.store.files import make_private_directory, remove_tree, unlink
from appcat.store.images import StoredImage, read_image
from appcat.store.locks import open_lock, try_lock

IMAGE = "image"
_NEW = ".new-"
_GONE = ".gone-"
_LOCK = ".lock"


class TemplateStore:
    """Reads, adds and removes them below ``root`` (``HOME/templates``)."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def names(self) -> list[str]:
        """All of them."""
        with contextlib.suppress(FileNotFoundError):
            return sorted(path.name for path in self._root.iterdir() if not path.name.startswith("."))
        return []

    def directory(self, name: str) -> Path:
        """Where the template called ``name`` is, if it is one."""
        return self._root / name

    def is_image(self, name: str) -> bool:
        """Whether it is an image without a recipe."""
        return (self._root / name / IMAGE).is_dir()

    def image(self, name: str) -> StoredImage:
        """The image without a recipe; raises NotFound, or Broken when files are missing or of the wrong size."""
        return read_image(self._root / name / IMAGE)

    def images(self) -> list[StoredImage]:
        """Every sound one."""
        found = []
        for name in self.names():
            with contextlib.suppress(AppcatError):
                found.append(self.image(name))
        return found

    @contextmanager
    def adding(self, name: str) -> Iterator[Path]:
        """An empty directory that becomes the template at the end, in place of one with that name; whole or not at all.

        The caller holds the home's allocation lock at the end, or is alone. Raises Unavailable, InsufficientSpace.
        """
        make_private_directory(self._root)
        self._sweep()
        new = self._root / f"{_NEW}{secrets.token_hex(8)}"
        lock = new.with_suffix(_LOCK)
        descriptor = open_lock(lock)
        try:
            try_lock(descriptor)
            make_private_directory(new)
            yield new
            self.remove(name)
            new.rename(self._root / name)
        except OSError as error:
            raise from_os_error(error, f"adding template {name}") from error
        finally:
            remove_tree(new)
            unlink(lock)
            os.close(descriptor)

    def remove(self, name: str) -> None:
        """Remove it: at once for whoever looks."""
        gone = self._root / f"{_GONE}{secrets.token_hex(8)}"
        try:
            (self._root / name).rename(gone)
        except FileNotFoundError:
            return
        remove_tree(gone)

    def _sweep(self) -> None:
        """What a kill left of removals and additions: of these, who is at it holds the lock."""
        for left in self._root.glob(f"{_GONE}*"):
            remove_tree(left)
        for lock in self._root.glob(f"{_NEW}*{_LOCK}"):
            descriptor = open_lock(lock)
            if try_lock(descriptor):
                remove_tree(lock.with_suffix(""))
                unlink(lock)
            os.close(descriptor)


def copy_recipe(source: Path, target: Path) -> None:
    """Copy a recipe's directory, links as what they lead to, into the empty directory ``target``.

    Raises Unavailable, InsufficientSpace.
    """
    try:
        shutil.copytree(source, target, dirs_exist_ok=True)
    except (OSError, shutil.Error) as error:
        first = error if isinstance(error, OSError) else OSError(str(error))
        raise from_os_error(first, "copying the template") from error
