from __future__ import annotations

import stat
from collections.abc import Iterator

from appcat.build.cpio import archive
from appcat.build.tree import Node, Tree

HEADER = 110


def entries(data: bytes) -> Iterator[tuple[str, list[int], bytes]]:
    """Name, the 13 header fields and content of each entry, by the kernel's description of the format."""
    offset = 0
    while True:
        assert data[offset : offset + 6] == b"070701"
        fields = [int(data[offset + 6 + 8 * i : offset + 14 + 8 * i], 16) for i in range(13)]
        name = data[offset + HEADER : offset + HEADER + fields[11] - 1].decode()
        start = (offset + HEADER + fields[11] + 3) // 4 * 4
        if name == "TRAILER!!!":
            assert start == len(data)
            return
        yield name, fields, data[start : start + fields[6]]
        offset = (start + fields[6] + 3) // 4 * 4


def sample() -> Tree:
    tree = Tree()
    tree.file("etc/motd", b"hello", 0o600)
    tree.link("/init", "/usr/bin/busybox")
    tree.file("/bin/tool", b"#!", 0o755)
    return tree


def test_what_is_put_in_comes_out() -> None:
    found = {name: (fields, data) for name, fields, data in entries(archive(sample().nodes))}
    fields, data = found["etc/motd"]
    assert data == b"hello"
    assert fields[1] == stat.S_IFREG | 0o600
    assert found["init"][1] == b"/usr/bin/busybox"
    assert stat.S_ISLNK(found["init"][0][1])
    assert stat.S_ISCHR(found["dev/console"][0][1])
    assert found["dev/console"][0][9:11] == [5, 1]


def test_owned_by_root_dated_to_the_epoch_with_inodes_of_their_own() -> None:
    found = [fields for _, fields, _ in entries(archive(sample().nodes))]
    assert all(fields[2:4] == [0, 0] and fields[5] == 0 for fields in found)
    assert len({fields[0] for fields in found}) == len(found)


def test_directories_come_before_what_is_in_them() -> None:
    names = [name for name, _, _ in entries(archive(sample().nodes))]
    assert names.index("etc") < names.index("etc/motd")
    assert names.index("usr") < names.index("usr/bin") < names.index("usr/bin/tool")


def test_order_of_making_does_not_matter() -> None:
    backwards = dict(reversed(sample().nodes.items()))
    assert archive(backwards) == archive(sample().nodes)


def test_names_and_contents_are_aligned() -> None:
    for length in range(1, 9):
        node = Node(stat.S_IFREG | 0o644, b"x" * length)
        assert [data for name, _, data in entries(archive({"n" * length: node})) if name != "."] == [b"x" * length]
