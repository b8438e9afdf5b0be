"""``appcat uninstall`` with real vms, a cache and a user of its own: nothing stays, whenever it is interrupted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from appcat.settings import runtime_directory
from tests.cat import Cat, keepers_of, switches_of, wait_until
from tests.conftest import cat_in, new_home

pytestmark = pytest.mark.vm


@pytest.fixture
def own(cache: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Cat]:
    """A home with its own cache, since the shared one would go, and a user without any files."""
    copy = tmp_path / "cache"
    copy.mkdir()
    shutil.copytree(cache / "images", copy / "images", symlinks=True)
    shutil.copy(cache / "probe.json", copy)
    user = tmp_path / "user"
    user.mkdir()
    for cat in cat_in(new_home(), copy, request):
        cat.extra["HOME"] = str(user)
        yield cat


def check_nothing_left(cat: Cat) -> None:
    assert not cat.home.exists(), sorted(cat.home.rglob("*"))
    assert not cat.cache.exists(), sorted(cat.cache.rglob("*"))
    assert not runtime_directory(cat.home).exists()
    assert cat.qemus() == []
    assert keepers_of([cat.home]) == []
    assert switches_of([cat.home]) == []
    assert list((cat.cache.parent / "user").iterdir()) == []


def test_nothing_is_left(own: Cat) -> None:
    own("network", "create", "lab")
    own("vm", "run", "web", "--disk", "64M", "--network", "lab")
    own.create("off")
    own.create("broken")
    (own.home / "vms" / "broken" / "vm.json").write_text("{")
    (own.home / "vms" / ".delete-old-1234").mkdir()
    wait_until(lambda: keepers_of([own.home]), what="a keeper")
    assert switches_of([own.home])
    done = json.loads(own("uninstall", "--yes", "--json"))
    assert [part["what"] for part in done["removed"] if part["kind"] == "vm"] == ["broken", "off", "web"]
    assert {part["kind"] for part in done["removed"]} == {"vm", "keeper", "home", "cache", "sockets"}
    assert done["kept"] == []
    check_nothing_left(own)
    assert "there was nothing to remove" in own("uninstall", "--yes")


def test_killed_half_way_the_next_one_finishes(own: Cat) -> None:
    own("vm", "run", "one")
    own("vm", "run", "two")
    for wait_for in ("vms/one", "vms/two", "ssh"):
        gone = own.home / wait_for
        victim = own.popen("uninstall", "--yes")
        try:
            wait_until(lambda gone=gone, victim=victim: not gone.exists() or victim.poll() is not None)
        finally:
            victim.kill()
            victim.communicate()
    assert "To remove the program itself" in own("uninstall", "--yes")
    check_nothing_left(own)


def test_foreign_files_stay(own: Cat) -> None:
    own("vm", "run", "web")
    notes = own.home / "notes.txt"
    notes.write_text("mine")
    photo = own.cache / "photo.jpg"
    photo.write_text("mine")
    done = own.try_("uninstall", "--yes")
    assert done.returncode == 0, done.stderr
    assert str(notes) in done.stderr and str(photo) in done.stderr
    assert list(own.home.iterdir()) == [notes] and list(own.cache.iterdir()) == [photo]
    assert own.qemus() == []
    notes.unlink()
