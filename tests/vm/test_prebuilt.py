"""A host without apt: what another one built boots there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from appcat.store.images import ImageStore
from tests.cat import Cat

pytestmark = pytest.mark.vm

# All that appcat drives, but for what it builds with.
PROGRAMS = ("qemu-system-x86_64", "qemu-system-aarch64", "qemu-img", "ssh")


def test_a_vm_of_a_prebuilt_template(cat: Cat, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    done = json.loads(cat("template", "publish", str(tmp_path / "set"), "pico", "--json"))
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in PROGRAMS:
        if found := shutil.which(name):
            (programs / name).symlink_to(found)
    other = Cat(tmp_path / "home", tmp_path / "cache", extra={"PATH": str(programs)})
    error = other.fails("missing-tool", "vm", "run", "web", "--json")
    assert "prebuilt" in error["hint"]
    other("config", "set", "prebuilt", done["prebuilt"])
    try:
        other("vm", "run", "web")
        assert other.exec("web", "hostname") == "web\n"
        (stored,) = ImageStore(other.cache / "images").all()
        assert stored.image.digest == json.loads(cat("template", "show", "pico", "--json"))["image"]["digest"]
    finally:
        other.clean_up()
