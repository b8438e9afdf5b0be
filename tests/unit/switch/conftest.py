"""A home with a switch of its own, whichever backend; nothing of it is left."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from appcat.model.machine import Backend
from appcat.settings import Settings
from appcat.store.files import make_private_directory
from appcat.store.layout import Layout
from appcat.switch import client, verdict
from tests.unit.support.processes import eventually


def bridges_work() -> bool:
    """Whether this very user can have bridges here."""
    return verdict.attempt() == ("", 0)


def layout_in(base: Path, backend: str) -> Layout:
    """A home below ``base``, which is short and private."""
    make_private_directory(base / "home")
    settings = Settings(base / "home", base / "cache", base / "run", base / "templates", switch=backend)
    return Layout(settings)


def ended(layout: Layout) -> None:
    """End the switch and wait until it is gone."""
    client.end(layout)
    assert client.look(layout).pid is None


@pytest.fixture(params=list(Backend))
def layout(short: Path, request: pytest.FixtureRequest) -> Iterator[Layout]:
    """With either backend."""
    if request.param is Backend.BRIDGE and not bridges_work():
        pytest.skip("this user can have no bridges on this host")
    home = layout_in(short, request.param)
    yield home
    ended(home)


@pytest.fixture
def bridge(short: Path) -> Iterator[Layout]:
    """With bridges."""
    if not bridges_work():
        pytest.skip("this user can have no bridges on this host")
    home = layout_in(short, Backend.BRIDGE)
    yield home
    ended(home)


@pytest.fixture
def hub(short: Path) -> Iterator[Layout]:
    """With the hub."""
    home = layout_in(short, Backend.HUB)
    yield home
    ended(home)


def kill(layout: Layout) -> int:
    """Kill the switch; returns the process id that it had."""
    pid = client.look(layout).pid
    assert pid
    os.kill(pid, 9)
    eventually(lambda: client.look(layout).pid is None)
    return pid
