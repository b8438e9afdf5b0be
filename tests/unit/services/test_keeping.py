from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from appcat.services import host_service, keeping
from appcat.services.context import Context
from appcat.settings import Settings
from appcat.store import locks
from tests.unit.support.processes import eventually


@pytest.fixture(autouse=True)
def no_keeper_left(ctx: Context) -> Iterator[None]:
    yield
    if who := locks.holder(ctx.layout.keeper_lock):
        os.kill(who.pid, signal.SIGKILL)


def keeper_pid(ctx: Context) -> int:
    """The process id of this home's keeper, once there is one."""
    who = eventually(lambda: locks.holder(ctx.layout.keeper_lock))
    assert isinstance(who, locks.Holder)
    return who.pid


def test_keeper_comes_on_demand_once_and_is_harmless_to_kill(ctx: Context) -> None:
    assert not keeping.is_running(ctx)
    keeping.ensure(ctx)
    first = keeper_pid(ctx)
    keeping.ensure(ctx)
    assert keeper_pid(ctx) == first
    assert os.getsid(first) == first  # it outlives the session of who started it
    os.kill(first, signal.SIGKILL)
    eventually(lambda: not keeping.is_running(ctx))
    keeping.ensure(ctx)
    assert keeper_pid(ctx) != first


def test_keeper_looks_after_a_home_given_as_a_relative_path(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ctx.layout.home.parent)
    monkeypatch.setenv("APPCAT_HOME", ctx.layout.home.name)
    keeping.ensure(Context(Settings.load()))
    assert keeper_pid(ctx)


def test_vms_run_without_a_keeper_when_it_cannot_be_started(ctx: Context, caplog: pytest.LogCaptureFixture) -> None:
    ctx.layout.keeper_log.mkdir()
    keeping.ensure(ctx)
    assert "the keeper could not be started" in caplog.text
    assert not keeping.is_running(ctx)


def test_service_is_told_the_home_it_serves(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in host_service.ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", "/usr/bin")
    assert host_service.environment(ctx) == {"PATH": "/usr/bin"}
    monkeypatch.setenv("APPCAT_HOME", "relative")
    monkeypatch.setenv("APPCAT_ACCELERATOR", "tcg")
    expected = {"PATH": "/usr/bin", "APPCAT_ACCELERATOR": "tcg", "APPCAT_HOME": str(ctx.layout.home)}
    assert host_service.environment(ctx) == expected


def test_nothing_installed_is_nothing_to_undo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "systemctl").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert keeping.uninstall() is False
