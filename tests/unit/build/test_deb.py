from __future__ import annotations

import gzip
import io
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from appcat.build.deb import unpack
from appcat.errors import BuildError


def data_tar(**members: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.mode = 0o4755
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content.encode()))
    return buffer.getvalue()


def ar(**members: bytes) -> bytes:
    archive = b"!<arch>\n"
    for name, data in members.items():
        archive += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode()
        archive += data + b"\n" * (len(data) % 2)
    return archive


def deb(path: Path, name: str, data: bytes) -> Path:
    path.write_bytes(ar(**{"debian-binary": b"2.0\n", "control.tar.xz": b"odd", name: data}))
    return path


@pytest.mark.parametrize(
    ("name", "compress"),
    [
        ("data.tar.xz", lzma.compress),
        ("data.tar.gz", gzip.compress),
        ("data.tar.zst", zstandard.ZstdCompressor().compress),
    ],
)
def test_unpacked_with_merged_usr(tmp_path: Path, name: str, compress: Callable[[bytes], bytes]) -> None:
    archive = deb(tmp_path / "x.deb", name, compress(data_tar(**{"./bin/sh": "shell", "./usr/share/doc": "words"})))
    unpack(archive, tmp_path / "root")
    assert (tmp_path / "root/usr/bin/sh").read_text() == "shell"
    assert (tmp_path / "root/usr/bin/sh").stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "root/usr/share/doc").read_text() == "words"


def test_nothing_lands_outside(tmp_path: Path) -> None:
    archive = deb(tmp_path / "x.deb", "data.tar.xz", lzma.compress(data_tar(**{"../../escaped": "!"})))
    unpack(archive, tmp_path / "a" / "root")
    assert not (tmp_path / "escaped").exists()
    assert (tmp_path / "a" / "root" / "escaped").exists()


def test_links_that_lead_outside_are_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        link = tarfile.TarInfo("./out")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path)
        tar.addfile(link)
        tar.addfile(tarfile.TarInfo("./out/file"), io.BytesIO())
    with pytest.raises(BuildError, match="outside"):
        unpack(deb(tmp_path / "x.deb", "data.tar.gz", gzip.compress(buffer.getvalue())), tmp_path / "root")
    assert not (tmp_path / "file").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not an archive at all",
        ar(**{"debian-binary": b"2.0\n"}),
        ar(**{"data.tar.bz3": b"?"}),
        ar(**{"data.tar.xz": lzma.compress(data_tar(file="x" * 5000))[:-200]}),
        ar(**{"data.tar.xz": b"noise"}),
    ],
)
def test_damage_is_a_build_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.deb").write_bytes(content)
    with pytest.raises(BuildError):
        unpack(tmp_path / "x.deb", tmp_path / "root")
