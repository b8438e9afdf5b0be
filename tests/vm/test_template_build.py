"""Building pico out of the distribution's packages. (That an ordinary user can do it, test_new_user shows.)"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from appcat.store.images import ImageStore, StoredImage
from tests.cat import Cat

pytestmark = [pytest.mark.vm, pytest.mark.xdist_group("template-build")]

LIMIT = 13_000_000


@pytest.fixture(scope="module")
def packages(cache: Path) -> Path:
    """Package lists and archives that were downloaded already."""
    return cache / "packages"


def builder(directory: Path, packages: Path) -> Cat:
    """A command line with an empty image cache of its own."""
    shutil.copytree(packages, directory / "cache" / "packages")
    return Cat(directory / "home", directory / "cache")


def only_image(cat: Cat) -> StoredImage:
    """The one image of a cache, every byte verified; nothing else may be left there."""
    store = ImageStore(cat.cache / "images")
    (stored,) = store.all()
    assert list((cat.cache / "images" / "staging").iterdir()) == []
    return store.verify(stored.image.digest)


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory, packages: Path) -> StoredImage:
    """An image for which two commands were started at once."""
    cat = builder(tmp_path_factory.mktemp("twice"), packages)
    commands = [cat.popen("template", "build", "pico", "--json") for _ in range(2)]
    for command in commands:
        out, err = command.communicate(timeout=600)
        assert command.returncode == 0, err
        assert json.loads(out)["template"] == "pico"
    return only_image(cat)


def test_two_builds_give_the_same_bytes_even_after_one_was_killed(
    twice: StoredImage, tmp_path: Path, packages: Path
) -> None:
    cat = builder(tmp_path, packages)
    command = cat.popen("template", "build", "pico", "--json", start_new_session=True)
    time.sleep(6)
    os.killpg(command.pid, signal.SIGKILL)
    command.communicate()
    cat("template", "build", "pico", timeout=600)
    again = only_image(cat)
    assert again.image == twice.image
    for file in again.image.files:
        assert (again.directory / file.name).read_bytes() == (twice.directory / file.name).read_bytes()


def test_small_enough(twice: StoredImage) -> None:
    assert twice.image.compressed_size <= LIMIT


def test_the_manifest_tells_what_is_in_it(twice: StoredImage) -> None:
    names = {package.name for package in twice.image.packages}
    assert {"busybox-static", "dropbear-bin", "qemu-guest-agent", "libc6"} <= names
    assert all(package.version and len(package.sha256) == 64 for package in twice.image.packages)


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, packages: Path) -> None:
    if os.getuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300m", "small", tmp_path]).returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        cat = builder(tmp_path, packages)
        assert cat.fails("no-space", "template", "build", "pico", "--json")["hint"]
        assert list((cat.cache / "images" / "staging").iterdir()) == []
        assert ImageStore(cat.cache / "images").all() == []
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_without_network(tmp_path: Path) -> None:
    cat = Cat(tmp_path / "home", tmp_path / "cache", extra={"http_proxy": "http://127.0.0.1:9"})
    error = cat.fails("build-failed", "template", "build", "pico", "--json")
    assert "package lists could not be fetched" in error["message"]
    assert "network" in error["hint"]
