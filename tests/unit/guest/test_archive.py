from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from appcat.guest.archive import CutOff, Stopped, Tally, Unpacker, UnsafeArchive, pack, total_size

Entry = tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.mtime = kind, link, mode, 1_000_000_000
    return info


def file(name: str, data: bytes = b"data", mode: int = 0o644) -> tuple[tarfile.TarInfo, bytes]:
    info = entry(name, mode=mode)
    info.size = len(data)
    return info, data


def directory(name: str, mode: int = 0o755) -> tarfile.TarInfo:
    return entry(name, tarfile.DIRTYPE, mode=mode)


def archive(*entries: Entry, kind: int = tarfile.GNU_FORMAT) -> io.BytesIO:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w|", format=kind) as tar:
        for item in entries:
            info, data = item if isinstance(item, tuple) else (item, b"")
            tar.addfile(info, io.BytesIO(data))
    stream.seek(0)
    return stream


def unpack(root: Path, stream: io.BytesIO, *, base: str = "", name: str = "got") -> Tally:
    tally = Tally()
    Unpacker(root, base, name, tally).unpack(stream)  # type: ignore[arg-type]
    return tally


@pytest.fixture
def inside(tmp_path: Path) -> Path:
    """A directory outside of which nothing may change."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("precious")
    (tmp_path / "inside").mkdir()
    return tmp_path / "inside"


def unharmed(inside: Path) -> bool:
    outside = inside.parent / "outside"
    return [path.name for path in outside.iterdir()] == ["file"] and (outside / "file").read_text() == "precious"


def nothing_half(root: Path) -> bool:
    return not [path for path in root.rglob("*") if path.name.startswith(".appcat-cp-")]


@pytest.mark.parametrize(
    "bad",
    [
        file("/etc/evil"),
        file("../outside/file"),
        file("./sub/../../outside/file"),
        directory("../outside/new"),
        entry("..", tarfile.SYMTYPE, "x"),
        entry("./hard", tarfile.LNKTYPE, "../outside/file"),
        entry("./hard", tarfile.LNKTYPE, "/etc/passwd"),
    ],
)
def test_names_that_leave_the_target_end_the_copy(inside: Path, bad: Entry) -> None:
    with pytest.raises(UnsafeArchive):
        unpack(inside, archive(directory("./"), file("./good"), bad, file("./never")))
    assert unharmed(inside)
    assert (inside / "got" / "good").read_text() == "data"
    assert not (inside / "got" / "never").exists()


def test_nothing_is_written_through_a_link_that_came_along(inside: Path) -> None:
    stream = archive(
        directory("./"),
        entry("./link", tarfile.SYMTYPE, str(inside.parent / "outside")),
        file("./link/file", b"evil"),
        directory("./link/new"),
        entry("./link/more", tarfile.SYMTYPE, "x"),
        directory("./link"),
        file("./after"),
    )
    tally = unpack(inside, stream)
    assert unharmed(inside)
    assert len(tally.failed) == 4
    assert (inside / "got" / "link").is_symlink()
    assert (inside / "got" / "after").exists()
    assert nothing_half(inside)


def test_a_link_to_a_file_is_replaced_and_not_followed(inside: Path) -> None:
    outside = inside.parent / "outside" / "file"
    stream = archive(directory("./"), entry("./x", tarfile.SYMTYPE, str(outside)), file("./x", b"mine"))
    unpack(inside, stream)
    assert unharmed(inside)
    assert (inside / "got" / "x").read_text() == "mine"
    assert not (inside / "got" / "x").is_symlink()


def test_links_that_were_there_before_are_not_followed_either(inside: Path) -> None:
    (inside / "got").mkdir()
    (inside / "got" / "sub").symlink_to(inside.parent / "outside")
    tally = unpack(inside, archive(directory("./"), directory("./sub"), file("./sub/file", b"evil")))
    assert unharmed(inside)
    assert len(tally.failed) == 2


def test_hard_links_only_to_what_came_along(inside: Path) -> None:
    (inside / "got").mkdir()
    (inside / "got" / "old").write_text("mine")
    tally = unpack(
        inside,
        archive(
            directory("./"),
            file("./a"),
            entry("./b", tarfile.LNKTYPE, "./a"),
            entry("./c", tarfile.LNKTYPE, "./old"),
            entry("./s", tarfile.SYMTYPE, "/etc/passwd"),
            entry("./d", tarfile.LNKTYPE, "./s"),
            entry("./b", tarfile.LNKTYPE, "./a"),
            entry("./a", tarfile.LNKTYPE, "./a"),
        ),
    )
    assert (inside / "got" / "a").stat().st_ino == (inside / "got" / "b").stat().st_ino
    assert sorted(text.partition(":")[0] for text in tally.failed) == ["got/c", "got/d"]
    assert nothing_half(inside)


def test_a_file_that_became_a_link_is_no_source_of_hard_links(inside: Path) -> None:
    stream = archive(
        directory("./"),
        file("./a"),
        entry("./a", tarfile.SYMTYPE, str(inside.parent / "outside" / "file")),
        entry("./b", tarfile.LNKTYPE, "./a"),
    )
    assert len(unpack(inside, stream).failed) == 1
    assert (inside.parent / "outside" / "file").stat().st_nlink == 1


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_special_files_are_left_out(inside: Path, kind: bytes) -> None:
    tally = unpack(inside, archive(directory("./"), entry("./special", kind), file("./after")))
    assert [path.name for path in (inside / "got").iterdir()] == ["after"]
    assert len(tally.skipped) == 1


def test_set_user_id_and_owner_are_not_taken_over(inside: Path) -> None:
    info, data = file("./tool", mode=0o6755)
    info.uid = info.gid = 12345
    unpack(inside, archive(directory("./", mode=0o3777), (info, data)))
    found = (inside / "got" / "tool").stat()
    assert stat.S_IMODE(found.st_mode) == 0o755
    assert found.st_uid == os.getuid()
    assert stat.S_IMODE((inside / "got").stat().st_mode) == 0o777


def test_cut_off_file_leaves_the_old_one(inside: Path) -> None:
    (inside / "got").write_text("old")
    stream = archive(file("./file", b"x" * 5000))
    stream.truncate(3000)
    with pytest.raises(CutOff):
        unpack(inside, stream, base="file")
    assert (inside / "got").read_text() == "old"
    assert nothing_half(inside)


@pytest.mark.parametrize("content", [b"", b"junk" * 200, b"\1" * 512])
def test_no_archive_at_all(inside: Path, content: bytes) -> None:
    with pytest.raises(UnsafeArchive):
        unpack(inside, io.BytesIO(content))


def with_size(info: tarfile.TarInfo, size: bytes) -> io.BytesIO:
    """One header that says any size, its checksum right."""
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT)[:512])
    block[124:136] = size
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return io.BytesIO(bytes(block) + bytes(4096))


@pytest.mark.parametrize(
    ("info", "size"),
    [
        (entry("x"), b"\xff" * 12),  # negative
        (entry("x"), b"\x80" + b"\xff" * 11),  # more than any file
        (entry("x", tarfile.GNUTYPE_LONGNAME), b"77777777777\0"),
        (entry("x", tarfile.XHDTYPE), b"77777777777\0"),
        (entry("x", tarfile.XGLTYPE), b"77777777777\0"),
    ],
)
def test_impossible_sizes(inside: Path, info: tarfile.TarInfo, size: bytes) -> None:
    with pytest.raises(UnsafeArchive):
        unpack(inside, with_size(info, size))


@pytest.mark.parametrize(
    "record",
    [b"", b"x", b"5 a=\n9999999", b"-3 a=b\n", b"0 path=x\n", b"999 path=x\n", b"12 size=-100\n", b"9" * 60000],
)
def test_damaged_pax_headers(inside: Path, record: bytes) -> None:
    info = entry("x", tarfile.XHDTYPE)
    padded = record + bytes(-len(record) % 512)
    stream = with_size(info, b"%011o\0" % len(record))
    damaged = io.BytesIO(stream.getvalue()[:512] + padded + archive(file("./ok")).getvalue())
    if record:
        with pytest.raises(UnsafeArchive):
            unpack(inside, damaged)
    else:
        unpack(inside, damaged)


def test_pax_names_are_checked_too(inside: Path) -> None:
    with pytest.raises(UnsafeArchive):
        unpack(inside, archive(file("../" + "x" * 300), kind=tarfile.PAX_FORMAT))
    assert unharmed(inside)


@pytest.mark.parametrize("kind", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_foreign_names(inside: Path, kind: int) -> None:
    deep = "/".join(["d" * 90] * 3)
    directories = [directory("./" + "/".join(["d" * 90] * depth)) for depth in range(4)]
    unpack(inside, archive(*directories, file(f"./{deep}/{'ü' * 100}"), kind=kind))
    assert (inside / "got" / deep / ("ü" * 100)).read_text() == "data"


def test_file_over_a_directory_and_the_other_way_round(inside: Path) -> None:
    (inside / "got" / "x").mkdir(parents=True)
    (inside / "got" / "y").write_text("mine")
    tally = unpack(inside, archive(directory("./"), file("./x"), directory("./y"), file("./y/z"), file("./after")))
    assert len(tally.failed) == 3
    assert (inside / "got" / "x").is_dir()
    assert (inside / "got" / "y").read_text() == "mine"
    assert (inside / "got" / "after").exists()
    assert nothing_half(inside)


def test_base_is_renamed_and_nothing_else_is_let_in(inside: Path) -> None:
    unpack(inside, archive(file("./notes")), base="notes", name="renamed")
    assert (inside / "renamed").read_text() == "data"
    with pytest.raises(UnsafeArchive):
        unpack(inside, archive(file("./other")), base="notes", name="renamed")


def test_contents_go_right_into_the_root(inside: Path) -> None:
    before = stat.S_IMODE(inside.stat().st_mode)
    unpack(inside, archive(directory("./", mode=0o700), file("./a")), name="")
    assert (inside / "a").exists()
    assert stat.S_IMODE(inside.stat().st_mode) == before


def test_stopping(inside: Path) -> None:
    tally = Tally()
    tally.stopped.set()
    with pytest.raises(Stopped):
        Unpacker(inside, "a", "a", tally).unpack(archive(file("./a")))  # type: ignore[arg-type]
    assert list(inside.iterdir()) == []


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "sub" / "empty").mkdir(parents=True)
    (root / "file").write_bytes(b"x" * 1000)
    os.link(root / "file", root / "twin")
    (root / "link").symlink_to("nowhere")
    (root / os.fsdecode(b"bad-\xff-name")).write_text("odd")
    os.mkfifo(root / "pipe")
    (root / "sub" / "tool").write_text("#!")
    (root / "sub" / "tool").chmod(0o751)
    (root / "sub" / "empty").chmod(0o500)
    for path in (root / "sub" / "tool", root / "sub" / "empty", root / "sub", root):
        os.utime(path, (1e9, 1e9))
    return root


def packed(*sources: tuple[Path, str]) -> tuple[io.BytesIO, Tally]:
    stream, tally = io.BytesIO(), Tally()
    pack(stream, sources, tally)
    stream.seek(0)
    return stream, tally


def test_there_and_back_again(tree: Path, inside: Path) -> None:
    stream, sent = packed((tree, "tree"))
    got = unpack(inside, stream, base="tree", name="copy")
    copy = inside / "copy"
    names = sorted(str(path.relative_to(tree)) for path in tree.rglob("*") if path.name != "pipe")
    assert sorted(str(path.relative_to(copy)) for path in copy.rglob("*")) == names
    assert (copy / "twin").stat().st_ino == (copy / "file").stat().st_ino
    assert (copy / "link").readlink() == Path("nowhere")
    for path in ("sub/tool", "sub/empty", "sub", "."):
        assert (copy / path).stat().st_mode == (tree / path).stat().st_mode
        assert (copy / path).stat().st_mtime == 1e9
    assert (sent.files, sent.bytes) == (got.files, got.bytes) == (5, 1005)
    assert sent.skipped == [f"{tree}/pipe is a pipe"]
    assert total_size([tree]) == 2005


def test_read_only_directories_can_be_filled_by_any_tar(tree: Path) -> None:
    (tree / "sub").chmod(0o500)
    stream, _ = packed((tree, "tree"))
    with tarfile.open(fileobj=stream) as tar:
        modes = [(info.name, info.mode) for info in tar if info.name == "tree/sub"]
        assert modes == [("tree/sub", 0o700), ("tree/sub", 0o500)]


def test_contents_alone(tree: Path) -> None:
    stream, _ = packed((tree / "sub", ""))
    with tarfile.open(fileobj=stream) as tar:
        assert tar.getnames() == ["empty", "empty", "tool"]


def test_nobody_is_named(tree: Path) -> None:
    stream, _ = packed((tree, "tree"))
    with tarfile.open(fileobj=stream) as tar:
        assert {(info.uid, info.gid, info.uname, info.gname) for info in tar} == {(0, 0, "", "")}


def test_what_cannot_be_read_is_told_and_the_rest_is_packed(tree: Path) -> None:
    stream, tally = packed((tree / "gone", "gone"), (tree / "file", "file"))
    assert tally.failed == [f"{tree}/gone: No such file or directory"]
    with tarfile.open(fileobj=stream) as tar:
        assert tar.getnames() == ["file"]


def shrink(path: Path) -> Callable[[int, int], None]:
    return lambda _done, _total: os.truncate(path, 10)


def test_file_that_becomes_shorter_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"x" * 2_000_000)
    stream, tally = io.BytesIO(), Tally(report=shrink(path))
    pack(stream, [(path, "log")], tally)
    assert tally.failed == [f"{path}: became shorter while it was read"]
    stream.seek(0)
    with tarfile.open(fileobj=stream) as tar:
        assert tar.getmember("log").size == 2_000_000
