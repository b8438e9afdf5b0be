"""Building pico out of the distribution's packages. (That an ordinary user can do it, test_new_user shows.)"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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


@contextmanager
def mirror(directory: Path, answer: Callable[[str], bytes]) -> Iterator[dict[str, str]]:
    """The environment in which apt knows one mirror only, which gives ``answer`` to every path."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = answer(self.path)
            self.send_response(200 if body else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        (directory / "sources").write_text(f"deb http://127.0.0.1:{server.server_address[1]}/debian stable main\n")
        (directory / "apt.conf").write_text(
            f'Dir::Etc::sourcelist "{directory}/sources"; Dir::Etc::sourceparts "-";'
            'Acquire::http::Proxy "DIRECT"; Acquire::Retries "0";'
        )
        yield {"APT_CONFIG": str(directory / "apt.conf")}
        server.shutdown()


def forged(packages: Path) -> bytes:
    """A real list of a real mirror, signed as it is, but for one letter."""
    real = next((packages / "lists").glob("*_InRelease")).read_bytes()
    assert b"Origin: Debian" in real
    return real.replace(b"Origin: Debian", b"Origin: debian")


@pytest.mark.parametrize(("what", "told"), [("nonsense", "signed|Clearsigned|NOSPLIT"), ("forged", "signature|BADSIG")])
def test_a_mirror_that_lies(tmp_path: Path, packages: Path, what: str, told: str) -> None:
    body = b"<html>please log in</html>" if what == "nonsense" else forged(packages)
    with mirror(tmp_path, lambda path: body if path.endswith("/InRelease") else b"") as environment:
        cat = Cat(tmp_path / "home", tmp_path / "cache", extra=environment)
        done = cat.try_("template", "build", "pico", "--json")
    error = json.loads(done.stderr.splitlines()[-1])
    assert (done.returncode, error["code"]) == (7, "build-failed"), done.stderr
    assert "package lists could not be fetched" in error["message"]
    assert re.search(told, error["message"] + error["details"]), error
    assert ImageStore(cat.cache / "images").all() == []
    assert list((cat.cache / "images" / "staging").iterdir()) == []
