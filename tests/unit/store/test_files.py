from __future__ import annotations

import os
import stat
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from appcat.errors import InsufficientSpace, Unavailable
from appcat.store import files
from tests.unit.support.listing import names_in
from tests.unit.support.processes import NOBODY, Child


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    if os.getuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    directory = tmp_path / "small"
    directory.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(directory)]
    if subprocess.run(mounting, capture_output=True, check=False).returncode:
        pytest.skip("this container may not mount a tmpfs")
    yield directory
    subprocess.run(["umount", str(directory)], check=True)


def test_content_is_replaced_and_nothing_else_left(tmp_path: Path) -> None:
    path = tmp_path / "vm.json"
    files.write_atomic(path, "old ä")
    files.write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert names_in(tmp_path) == ["vm.json"]


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_permissions_are_as_asked(tmp_path: Path, mode: int) -> None:
    files.write_atomic(tmp_path / "file", "", mode)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


def test_full_disk_keeps_the_old_content_and_says_so(small_disk: Path) -> None:
    path = small_disk / "vm.json"
    files.write_atomic(path, "old")
    with pytest.raises(InsufficientSpace, match=r"no space left while writing vm\.json"):
        files.write_atomic(path, b"x" * (1 << 20))
    assert path.read_text() == "old"
    assert names_in(small_disk) == ["vm.json"]


def test_writing_cut_short_keeps_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "vm.json"
    files.write_atomic(path, "old")
    code = (
        "import sys, pathlib, resource\n"
        "from appcat.errors import Unavailable\n"
        "from appcat.store.files import write_atomic\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try:\n"
        "    write_atomic(pathlib.Path(sys.argv[1]), b'x' * 100_000)\n"
        "except Unavailable as error:\n"
        "    print(error.code)\n"
    )
    with Child(code, path) as child:
        assert child.read_line() == "os-error"
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["vm.json"]


def test_missing_directory_is_told(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"No such file or directory while writing vm\.json"):
        files.write_atomic(tmp_path / "gone" / "vm.json", "text")


def test_writers_side_by_side_never_mix_or_fail(tmp_path: Path) -> None:
    path = tmp_path / "file"
    contents = [letter * 100_000 for letter in "abcd"]
    failures: list[BaseException] = []

    def write_often(content: str) -> None:
        try:
            for _ in range(25):
                files.write_atomic(path, content)
                assert path.read_text() in contents
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write_often, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert names_in(tmp_path) == ["file"]


def test_private_directories_are_for_this_user_alone(tmp_path: Path) -> None:
    directory = tmp_path / "a" / "b"
    files.make_private_directory(directory)
    files.make_private_directory(directory)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_directories_made_on_the_way_are_private_too(tmp_path: Path) -> None:
    files.make_private_directory(tmp_path / "home" / "cache")
    assert stat.S_IMODE((tmp_path / "home").stat().st_mode) == 0o700


def test_a_file_in_the_way_of_a_directory_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match="while making a directory"):
        files.make_private_directory(tmp_path / "file" / "below")


def test_runtime_directory_is_made_once_and_found_again(tmp_path: Path) -> None:
    path = tmp_path / "appcat-0" / "hash"
    files.claim_runtime_directory(path)
    files.claim_runtime_directory(path)
    assert [stat.S_IMODE(level.stat().st_mode) for level in (path, path.parent)] == [0o700, 0o700]


def symlink_in_the_way(level: Path) -> None:
    (level.parent / "elsewhere").mkdir(mode=0o700)
    level.symlink_to("elsewhere")


def open_to_others(level: Path) -> None:
    level.mkdir()
    level.chmod(0o755)


def of_somebody_else(level: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("giving a directory away needs root")
    level.mkdir(mode=0o700)
    os.chown(level, NOBODY, NOBODY)


@pytest.mark.parametrize("prepare", [symlink_in_the_way, open_to_others, of_somebody_else])
@pytest.mark.parametrize("level", ["appcat-0", "appcat-0/hash"])
def test_runtime_directory_that_is_not_ours_alone_is_refused(tmp_path: Path, level: str, prepare: object) -> None:
    bad = tmp_path / level
    bad.parent.mkdir(mode=0o700, exist_ok=True)
    prepare(bad)  # type: ignore[operator]
    with pytest.raises(Unavailable) as caught:
        files.claim_runtime_directory(tmp_path / "appcat-0" / "hash")
    assert caught.value.code == "unsafe-runtime-directory"
    assert str(bad) in caught.value.message


def test_removing_what_is_gone_is_fine(tmp_path: Path) -> None:
    files.remove_tree(tmp_path / "gone")
    files.unlink(tmp_path / "gone")


def test_trees_and_files_are_removed(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "file").touch()
    (tmp_path / "other").touch()
    files.remove_tree(tmp_path / "a")
    files.unlink(tmp_path / "other")
    assert names_in(tmp_path) == []


def test_a_tree_is_removed_through_no_link(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "link").symlink_to(tmp_path / "precious")
    files.remove_tree(tmp_path / "tree")
    assert names_in(tmp_path) == ["precious"]


# --- files that are not ours alone


@pytest.mark.parametrize("content", [b"", b"new\n", b"longer than it was\n"])
def test_a_rewritten_file_is_like_the_one_before(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "hosts"
    path.write_text("old content\n")
    path.chmod(0o640)
    if os.getuid() == 0:
        os.chown(path, NOBODY, NOBODY)
    os.setxattr(path, "user.label", b"mine")
    before = path.stat()
    files.rewrite(path, content)
    after = path.stat()
    assert path.read_bytes() == content
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert os.getxattr(path, "user.label") == b"mine"
    assert after.st_ino != before.st_ino
    assert names_in(tmp_path) == ["hosts"]


def test_a_file_behind_a_link_is_rewritten_there(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "hosts").write_text("old")
    link = tmp_path / "hosts"
    link.symlink_to("there/hosts")
    files.rewrite(link, b"new")
    assert link.is_symlink()
    assert (tmp_path / "there" / "hosts").read_text() == "new"
    assert names_in(tmp_path / "there") == ["hosts"]


@pytest.fixture
def own_mount(tmp_path: Path) -> Iterator[Path]:
    """A file that is a mount of its own, as a container's hosts file is."""
    path, source = tmp_path / "hosts", tmp_path / "source"
    for file in (path, source):
        file.write_text("old content\n")
    if os.getuid() != 0 or subprocess.run(["mount", "--bind", source, path], capture_output=True).returncode:
        pytest.skip("mounting needs root and a container that lets it")
    yield path
    subprocess.run(["umount", str(path)], check=True)


@pytest.mark.parametrize("content", [b"", b"new\n", b"longer than it was\n"])
def test_a_file_that_cannot_be_replaced_is_written_to(own_mount: Path, content: bytes) -> None:
    inode = own_mount.stat().st_ino
    files.rewrite(own_mount, content)
    assert own_mount.read_bytes() == content
    assert own_mount.stat().st_ino == inode
    assert names_in(own_mount.parent) == ["hosts", "source"]


def test_a_shorter_file_is_never_seen_with_the_end_of_the_longer_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off between writing and cutting: empty lines, no half of a line."""
    path = tmp_path / "hosts"
    path.write_text("127.0.0.1 localhost\n127.77.3.4 web\n")

    def cut_off(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "ftruncate", cut_off)
    with pytest.raises(KeyboardInterrupt):
        files._overwrite(path, b"127.0.0.1 localhost\n")
    assert path.read_text().split("\n")[:2] == ["127.0.0.1 localhost", ""]
    assert not path.read_text().removeprefix("127.0.0.1 localhost\n").strip("\n")


def test_what_may_not_be_rewritten_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "hosts"
    path.write_text("old")

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchmod", refuse)
    with pytest.raises(Unavailable) as caught:
        files.rewrite(path, b"new")
    assert caught.value.code == "not-permitted"
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["hosts"]
