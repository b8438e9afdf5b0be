"""Layers: frozen disks that overlays stand on, shared by whatever vms and bases need them.

A layer is another name (a hard link) of what was a vm's disk, so freezing copies nothing, and its old owner may be
renamed or deleted. What refers to a layer is the header of the qcow2 file above it, or a ``base.json``: references are
in the files that need them, and nothing is counted. Whoever adds or removes references, or sweeps, holds the home's
allocation lock.
"""

from __future__ import annotations

import errno
import logging
import os
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path

from appcat.errors import AppcatError, from_os_error
from appcat.store.files import make_private_directory, sync_directory, unlink
from appcat.store.qcow2 import backing_file

log = logging.getLogger(__name__)

SUFFIX = ".qcow2"


class LayerStore:
    """Layers below ``root``."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def path(self, name: str) -> Path:
        """Where the layer called ``name`` is."""
        return self._root / name

    def add(self, disk: Path) -> Path:
        """Make the file ``disk`` a layer as well; raises Unavailable, InsufficientSpace."""
        make_private_directory(self._root)
        layer = self._root / f"{secrets.token_hex(8)}{SUFFIX}"
        try:
            os.link(disk, layer)
            sync_directory(self._root)
        except OSError as error:
            raise from_os_error(error, f"freezing {disk.name}") from error
        return layer

    def adopt(self, file: Path, name: str) -> Path:
        """Make an image's disk the layer called ``name``, unless it is one already; raises as ``add``.

        It is another name of the same file where home and cache share a file system, else a copy.
        """
        make_private_directory(self._root)
        layer = self._root / f"{name}{SUFFIX}"
        if layer.exists():
            return layer
        new = self._root / f".{secrets.token_hex(8)}"
        try:
            try:
                os.link(file, new)
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
                    raise
                shutil.copyfile(file, new)
            new.replace(layer)
            sync_directory(self._root)
        except OSError as error:
            unlink(new)
            raise from_os_error(error, f"taking over {file.name}") from error
        return layer

    def chain(self, disk: Path) -> list[Path]:
        """The file ``disk`` and all it stands on, the top first; raises Broken when one cannot be read."""
        found = [disk]
        while (below := backing_file(found[-1])) is not None:
            found.append(below)
        return found

    def sweep(self, disks: Iterable[Path], kept: Iterable[str]) -> None:
        """Remove every layer that is neither named in ``kept`` nor below one of ``disks``.

        Does nothing as long as one of them cannot be read: what it stands on is not known then.
        """
        if not self._root.is_dir():
            return
        try:
            roots = [*disks, *(self.path(name) for name in kept)]
            needed = {path.name for root in roots for path in self.chain(root) if path.parent == self._root}
        except AppcatError as error:
            log.warning("layers are not swept: %s", error)
            return
        for path in self._root.glob(f"*{SUFFIX}"):
            if path.name not in needed:
                log.info("sweeping layer %s", path.name)
                unlink(path)
