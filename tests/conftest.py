"""Fixtures for tests with real vms: a home of its own each, one shared image cache, no QEMU left behind."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cat import Cat, keepers_of, qemus_of, wait_until


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
        web = getattr(item, "funcargs", {}).get("shared")
        if report.failed and web is not None:
            report.sections.append(("guest console", web.logs()))


@pytest.fixture(scope="session", autouse=True)
def no_qemu_left() -> Iterator[None]:
    """After everything, nothing that this run started is alive: no QEMU and, their homes being gone, no keeper."""
    yield
    left = {str(home): qemus_of(home) for home in HOMES if qemus_of(home)}
    assert not left, f"QEMU left behind: {left}"
    wait_until(lambda: not keepers_of(HOMES), what="the end of the keepers")
