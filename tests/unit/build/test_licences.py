"""Licences in copyright files."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest

from appcat.build.licences import Copyrights, declared
from tests.unit.build.test_deb import ar
from tests.unit.build.test_parcel import tar_of

MACHINE_READABLE = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Files: *
Copyright: someone
License: GPL-2+

Files: x
License: Expat
 Permission is hereby granted

License: GPL-2+
 This program is free software
"""


@pytest.mark.parametrize(
    ("text", "names"),
    [(MACHINE_READABLE, ("GPL-2+", "Expat")), ("This is free.\nLicense: GPL\n", ()), ("", ())],
)
def test_what_is_declared(text: str, names: tuple[str, ...]) -> None:
    assert declared(text) == names


def test_of_a_package_and_of_one_that_refers_to_it(tmp_path: Path) -> None:
    data = tar_of({"./usr/share/doc/one/copyright": MACHINE_READABLE, "./usr/bin/one": "program"})
    (tmp_path / "one.deb").write_bytes(ar(**{"data.tar.xz": lzma.compress(data)}))
    found = Copyrights()
    found.read_archive(tmp_path / "one.deb")
    doc = tmp_path / "root" / "usr" / "share" / "doc"
    (doc / "three").mkdir(parents=True)
    (doc / "two").symlink_to("one")
    (doc / "three" / "copyright").symlink_to("../two/copyright")
    (doc / "round").symlink_to("round")
    found.read_directory(tmp_path / "root")
    assert found.of("one") == found.of("two") == found.of("three") == ("GPL-2+", "Expat")
    assert found.of("four") == ()
    assert found.of("round") == ()
