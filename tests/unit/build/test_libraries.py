from __future__ import annotations

from pathlib import Path

import pytest

from appcat.build.libraries import library_closure
from appcat.errors import BuildError
from appcat.model.vm import Arch
from tests.unit.build.elf import program

LIBRARIES = "usr/lib/x86_64-linux-gnu"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / LIBRARIES).mkdir(parents=True)
    (tmp_path / "usr/lib64").mkdir()
    (tmp_path / "usr/bin").mkdir()
    (tmp_path / LIBRARIES / "liba.so.1").write_bytes(program(["libb.so.1", "libc.so.6"]))
    (tmp_path / LIBRARIES / "libb.so.1").write_bytes(program(["liba.so.1"]))
    (tmp_path / LIBRARIES / "libc.so.6").write_bytes(program([]))
    (tmp_path / "usr/lib64/ld.so").write_bytes(program([]))
    (tmp_path / "usr/bin/tool").write_bytes(program(["liba.so.1"], "/lib64/ld.so"))
    (tmp_path / "usr/bin/static").write_bytes(program([]))
    (tmp_path / "usr/bin/script").write_text("#!/bin/sh\n")
    return tmp_path


def test_all_that_is_needed_and_what_that_needs(root: Path) -> None:
    found = library_closure(root, ["usr/bin/tool"], Arch.X86_64)
    assert found == [*(f"{LIBRARIES}/lib{name}" for name in ("a.so.1", "b.so.1", "c.so.6")), "usr/lib64/ld.so"]


@pytest.mark.parametrize("name", ["static", "script"])
def test_what_needs_nothing(root: Path, name: str) -> None:
    assert library_closure(root, [f"usr/bin/{name}"], Arch.X86_64) == []


def test_a_missing_library_is_named(root: Path) -> None:
    (root / LIBRARIES / "libb.so.1").unlink()
    with pytest.raises(BuildError, match=r"liba\.so\.1 needs the library libb\.so\.1"):
        library_closure(root, ["usr/bin/tool"], Arch.X86_64)


def test_a_missing_program_is_named(root: Path) -> None:
    with pytest.raises(BuildError, match="usr/bin/nothing"):
        library_closure(root, ["usr/bin/nothing"], Arch.X86_64)
