"""The archive format of an initial file system: cpio "newc", as the kernel's buffer-format.rst describes it.

Written so that the same tree always gives the same bytes: sorted, owned by root, dated to the epoch, inodes counted.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping

from appcat.build.tree import Node

_MAGIC = b"070701"
_ALIGNMENT = 4
_TRAILER = "TRAILER!!!"
# Without it the root directory stays as a tmpfs is born: writable by everybody.
_ROOT = Node(stat.S_IFDIR | 0o755)


def archive(nodes: Mapping[str, Node]) -> bytes:
    """The archive of ``nodes`` by path; a directory sorts before what is in it, as the kernel needs it."""
    everything = {".": _ROOT, **nodes}
    entries = [_entry(path, node, inode) for inode, (path, node) in enumerate(sorted(everything.items()), start=1)]
    return b"".join([*entries, _entry(_TRAILER, Node(0), 0)])


def _entry(path: str, node: Node, inode: int) -> bytes:
    name = path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(node.mode) else 1
    # inode, mode, uid, gid, links, mtime, size, device of the file (2), device that the node is (2), name, checksum
    fields = (inode, node.mode, 0, 0, links, 0, len(node.data), 0, 0, *node.device, len(name), 0)
    header = _MAGIC + b"".join(b"%08X" % field for field in fields)
    return _pad(header + name) + _pad(node.data)


def _pad(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % _ALIGNMENT)
