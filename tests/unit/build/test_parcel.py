"""What the builder machine is handed."""

from __future__ import annotations

import gzip
import io
import lzma
import tarfile
from pathlib import Path

import pytest

from appcat.build.deb import add_files, write_plain
from appcat.build.parcel import is_wanted, write_parcel
from appcat.build.recipe import Source
from appcat.build.tree import Tree
from appcat.checks import unchecked
from appcat.errors import BuildError
from appcat.model.template import inherit, parse_recipe, read_recipe_text
from appcat.model.vm import Arch
from tests.unit.build.test_deb import ar
from tests.unit.model.test_template import SYSTEM


def tar_of(entries: dict[str, str | None]) -> bytes:
    """An archive of files, of directories (None) and of links (a text that begins with an arrow)."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, text in entries.items():
            entry = tarfile.TarInfo(name)
            entry.uid, entry.gid, entry.mode, entry.uname = 0, 42, 0o4755, "root"
            if text is None:
                entry.type = tarfile.DIRTYPE
                tar.addfile(entry)
            elif text.startswith("->"):
                entry.type, entry.linkname = tarfile.LNKTYPE, text[2:]
                tar.addfile(entry)
            else:
                entry.size = len(text)
                tar.addfile(entry, io.BytesIO(text.encode()))
    return packed.getvalue()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    data = tar_of({"./bin": None, "./bin/su": "su", "./bin/sg": "->./bin/su", "./usr/share/man/man1/su.1": "manual",
                   "./usr/share/doc/login/copyright": "free"})  # fmt: skip
    parts = {"debian-binary": b"2.0\n", "control.tar.gz": gzip.compress(b"control"), "data.tar.xz": lzma.compress(data)}
    path = tmp_path / "login.deb"
    path.write_bytes(ar(**parts))
    return path


def test_a_plain_package_says_the_same(package: Path, tmp_path: Path) -> None:
    write_plain(package, tmp_path / "plain.deb")
    plain = (tmp_path / "plain.deb").read_bytes()
    assert plain.startswith(b"!<arch>\ndebian-binary   ")
    assert b"control.tar     " in plain
    assert b"data.tar        " in plain
    assert b"manual" in plain


def test_a_damaged_package_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.deb").write_bytes(ar(**{"data.tar.xz": b"no archive"}))
    with pytest.raises(BuildError, match=r"bad\.deb is damaged"):
        write_plain(tmp_path / "bad.deb", tmp_path / "plain.deb")


def test_files_for_the_beginning_keep_owner_and_mode(package: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        add_files(package, tar, is_wanted)
    packed.seek(0)
    with tarfile.open(fileobj=packed) as tar:
        members = {member.name: member for member in tar}
    assert sorted(members) == ["usr/bin/sg", "usr/bin/su", "usr/share/doc/login/copyright"]
    assert (members["usr/bin/su"].gid, members["usr/bin/su"].mode) == (42, 0o4755)
    assert members["usr/bin/sg"].linkname == "usr/bin/su"
    assert members["usr/bin/su"].uname == ""


def source_of(tmp_path: Path) -> Source:
    data = read_recipe_text(SYSTEM, "full")
    base = Source(parse_recipe(data, "full"), Arch.X86_64, data, {}, tmp_path)
    own = inherit({"commands": ["echo 'a  b'"], "users": {"bob": {}}}, data)
    (tmp_path / "steps").write_text("#!/bin/sh\n")
    return Source(parse_recipe(own, "full"), Arch.X86_64, own, {}, tmp_path, base)


def test_a_parcel(package: Path, tmp_path: Path) -> None:
    parcel = tmp_path / "parcel"
    parcel.mkdir()
    files = Tree()
    files.directory("srv/data", 0o750)
    files.file("etc/motd", b"welcome")
    files.file("usr/bin/run", b"run", 0o755)
    files.link("etc/link", "motd")
    told: list[tuple[int, int]] = []
    source = source_of(tmp_path)
    write_parcel(parcel, source, ([package], [package]), files, lambda *now: told.append(now), unchecked)
    assert told == [(0, 2), (1, 2)]
    assert (parcel / "users").read_text() == "ann yes /bin/bash sudo\nbob no /bin/bash\n"
    assert (parcel / "units").read_text() == "enable ssh.service\nmask apt-daily.timer\n"
    assert [path.read_text() for path in (parcel / "commands").iterdir()] == ["echo 'a  b'\n"]
    assert "path-include=/usr/share/doc/*/copyright" in (parcel / "dpkg.cfg").read_text()
    with tarfile.open(parcel / "bootstrap.tar") as tar:
        names = tar.getnames()
        assert tar.getmember("bin").linkname == "usr/bin"
    assert names.index("usr/bin") < names.index("bin") < names.index("usr/bin/su")
    assert "var/lib/dpkg/status" in names
    with tarfile.open(parcel / "files.tar") as tar:
        assert sorted(tar.getnames()) == ["etc/link", "etc/motd", "usr/bin/run"]
        assert tar.getmember("usr/bin/run").mode == 0o755


def test_with_a_base_nothing_is_bootstrapped(package: Path, tmp_path: Path) -> None:
    parcel = tmp_path / "parcel"
    parcel.mkdir()
    write_parcel(parcel, source_of(tmp_path), ([], [package]), Tree(), lambda *_: None, unchecked)
    assert not (parcel / "bootstrap.tar").exists()
    assert not (parcel / "essential").exists()


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("usr/bin/su", True),
        ("usr/share/man/man1/su.1", False),
        ("usr/share/doc/login/NEWS.gz", False),
        ("usr/share/doc/login/copyright", True),
    ],
)
def test_what_is_left_out(path: str, wanted: bool) -> None:
    assert is_wanted(path) is wanted
