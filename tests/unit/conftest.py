"""Fixtures for unit tests: homes and short directories that vanish afterwards."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from appcat.services.context import Context
from appcat.settings import Settings
from appcat.store.files import make_private_directory
from appcat.store.vms import VmStore

# Properties are about values, never about time; nothing is remembered between runs.
settings.register_profile("appcat", deadline=None, database=None, max_examples=40)
settings.load_profile("appcat")


@pytest.fixture
def short() -> Iterator[Path]:
    """A directory whose path leaves room for socket names (pytest's own may not)."""
    with tempfile.TemporaryDirectory(prefix="appcat-test-", dir="/tmp") as directory:
        yield Path(directory)


@pytest.fixture
def ctx(tmp_path: Path, short: Path) -> Context:
    """Services over an empty home."""
    context = Context(Settings(tmp_path / "home", tmp_path / "cache", short / "run", tmp_path / "templates"))
    make_private_directory(context.layout.vms)
    return context


@pytest.fixture
def store(ctx: Context) -> VmStore:
    return ctx.store
