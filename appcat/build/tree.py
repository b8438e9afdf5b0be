"""A guest's root file system while it is put together: in memory, so that neither root nor clean-up is needed."""

from __future__ import annotations

import posixpath
import stat
from dataclasses import dataclass

from appcat.errors import BuildError

CONSOLE = (5, 1)
# With merged /usr these are links; what a package puts below them lands in the real directory.
MERGED = ("bin", "sbin", "lib", "lib64")


@dataclass(frozen=True)
class Node:
    """A file, link, directory or device; ``mode`` has the type bits, ``data`` is the content or a link's target."""

    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


class Tree:
    """Nodes by path without a leading slash. Parents come by themselves, nothing is put over something else."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        for name in MERGED:
            self.directory(f"usr/{name}")
            self.link(name, f"usr/{name}")
        self._put("dev/console", Node(stat.S_IFCHR | 0o600, device=CONSOLE))

    def __contains__(self, path: str) -> bool:
        return merged(path) in self.nodes

    def file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Add a file; raises BuildError when something is there already."""
        self._put(path, Node(stat.S_IFREG | mode, data))

    def link(self, path: str, target: str) -> None:
        """Add a symbolic link; raises BuildError when something is there already."""
        self._put(path, Node(stat.S_IFLNK | 0o777, target.encode()))

    def directory(self, path: str, mode: int = 0o755) -> None:
        """Make sure that a directory exists, one that is new with ``mode``; raises BuildError when it is a file."""
        path = merged(path)
        if not path:
            return
        self.directory(posixpath.dirname(path))
        node = self.nodes.setdefault(path, Node(stat.S_IFDIR | mode))
        if not stat.S_ISDIR(node.mode):
            raise BuildError(f"/{path} is not a directory in the image", hint="correct the template")

    def _put(self, path: str, node: Node) -> None:
        path = merged(path)
        if path in self.nodes:
            raise BuildError(f"/{path} would come into the image twice", hint="correct the template")
        self.directory(posixpath.dirname(path))
        self.nodes[path] = node


def merged(path: str) -> str:
    """Where ``path`` really is when ``/bin``, ``/sbin`` and ``/lib`` are links into ``/usr``; no leading slash."""
    relative = posixpath.normpath("/" + path).lstrip("/")
    first, slash, _ = relative.partition("/")
    return f"usr/{relative}" if slash and first in MERGED else relative
