"""Fixtures for tests with real vms: a home of its own each, one shared image cache, no QEMU left behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cat import Cat, keepers_of, qemus_of, switches_of, wait_until

# Started in the background by a shell, this process was told to ignore interrupts, and its children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def cache_directory() -> Path:
    """Where built images are kept between runs; rebuilt by whoever finds it empty."""
    given = os.environ.get("APPCAT_TEST_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(given) if given else Path(base) / "appcat-test"


@pytest.fixture(scope="session")
def cache() -> Path:
    """An image cache in which pico is built."""
    directory = cache_directory()
    with tempfile.TemporaryDirectory() as home:
        Cat(Path(home), directory)("vm", "create", "warm-the-cache", timeout=1800)
    return directory


HOMES: list[Path] = []


def new_home() -> Path:
    return Path(tempfile.mkdtemp(prefix="appcat-test-"))


def cat_in(home: Path, cache: Path, request: pytest.FixtureRequest) -> Iterator[Cat]:
    cat = Cat(home, cache)
    HOMES.append(home)
    try:
        yield cat
    finally:
        report = getattr(request.node, "report_of_call", None)
        if report is not None and report.failed:
            print(cat.logs())
        try:
            cat.clean_up()
        finally:
            shutil.rmtree(home, ignore_errors=True)


def small_home(cache: Path, request: pytest.FixtureRequest) -> Iterator[Cat]:
    """A home on a file system of 6 MiB."""
    if os.getuid() != 0:
        pytest.skip("mounting a small tmpfs needs root")
    mount = Path(tempfile.mkdtemp(prefix="appcat-test-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m,mode=0700", "tmpfs", str(mount)], check=True)
    try:
        yield from cat_in(mount / "home", cache, request)
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)
        mount.rmdir()


def fill(path: Path) -> None:
    """Take all the space that is left."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)


@pytest.fixture
def cat(cache: Path, request: pytest.FixtureRequest) -> Iterator[Cat]:
    """A fresh home."""
    yield from cat_in(new_home(), cache, request)


@pytest.fixture(scope="session")
def shared(cache: Path, request: pytest.FixtureRequest) -> Iterator[Cat]:
    """A home with one running vm called ``web``, for tests that only look at it or work inside it."""
    for cat in cat_in(new_home(), cache, request):
        cat("vm", "run", "web", "--disk", "64M", "--label", "role=test")
        yield cat


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.when == "call":
        item.report_of_call = report  # type: ignore[attr-defined]
        given = getattr(item, "funcargs", {})
        for cat in (given.get("shared"), given.get("home")):  # those that outlive the test; others print their logs
            if report.failed and isinstance(cat, Cat):
                report.sections.append(("guest console", cat.logs()))


@pytest.fixture(autouse=True)
def signals_are_left_alone() -> Iterator[None]:
    """A test that left another handler behind would change what later ones see: an interrupt that never comes."""
    watched = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
    before = {number: signal.getsignal(number) for number in watched}
    yield
    changed = {number.name for number in watched if signal.getsignal(number) is not before[number]}
    for number, handler in before.items():
        signal.signal(number, handler)
    assert not changed, f"handlers left behind: {changed}"


@pytest.fixture(scope="session", autouse=True)
def no_qemu_left() -> Iterator[None]:
    """After everything, nothing that this run started is alive: no QEMU and, their homes being gone, no helper."""
    yield
    left = {str(home): qemus_of(home) for home in HOMES if qemus_of(home)}
    assert not left, f"QEMU left behind: {left}"
    wait_until(lambda: not keepers_of(HOMES), what="the end of the keepers")
    wait_until(lambda: not switches_of(HOMES), what="the end of the switches")
