from __future__ import annotations

import stat

import pytest

from appcat.build.tree import Tree, merged
from appcat.errors import BuildError


@pytest.mark.parametrize(
    ("path", "real"),
    [
        ("/bin/sh", "usr/bin/sh"),
        ("./lib/x86_64-linux-gnu/libc.so.6", "usr/lib/x86_64-linux-gnu/libc.so.6"),
        ("lib64/ld.so", "usr/lib64/ld.so"),
        ("/usr/bin/env", "usr/bin/env"),
        ("/library/x", "library/x"),
        ("./bin", "bin"),
        ("./.hidden", ".hidden"),
        ("/", ""),
    ],
)
def test_merged_usr(path: str, real: str) -> None:
    assert merged(path) == real


def test_parents_come_by_themselves() -> None:
    tree = Tree()
    tree.file("/a/b/c", b"")
    assert stat.S_ISDIR(tree.nodes["a/b"].mode)
    assert "/a/b/c" in tree


def test_nothing_is_put_over_something_else() -> None:
    tree = Tree()
    tree.file("/bin/sh", b"")
    with pytest.raises(BuildError, match="/usr/bin/sh"):
        tree.link("/usr/bin/sh", "busybox")


def test_a_file_is_no_directory() -> None:
    tree = Tree()
    tree.file("/etc", b"")
    with pytest.raises(BuildError, match="/etc is not a directory"):
        tree.file("/etc/motd", b"")
