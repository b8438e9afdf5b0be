"""What the host's service manager is given, with a home that its quoting must not trip over."""

from __future__ import annotations

import plistlib
import sys

import pytest

from appcat.services import host_service
from appcat.services.host_service import DAEMON, KEEPER
from tests.golden.golden import check

HOME = '/srv/my "vms"/$HOME & <more> 100%/back\\slash'
PYTHON = "/opt/my $tools/100%/bin/python3"


@pytest.fixture(autouse=True)
def interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", PYTHON)


OPTIONS = ("--listen", "127.0.0.1:8443", "--tls")
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "APPCAT_HOME": HOME}


def test_systemd_units_are_as_reviewed() -> None:
    check("appcat-keeper.service.txt", host_service.systemd_unit(KEEPER, ENVIRONMENT))
    check("appcat-daemon.service.txt", host_service.systemd_unit(DAEMON, ENVIRONMENT, *OPTIONS))


def test_launchd_agents_are_as_reviewed() -> None:
    check("org.appcat.keeper.plist.txt", host_service.launchd_agent(KEEPER, ENVIRONMENT))
    check("org.appcat.daemon.plist.txt", host_service.launchd_agent(DAEMON, ENVIRONMENT, *OPTIONS))


@pytest.mark.parametrize(("service", "options"), [(KEEPER, ()), (DAEMON, OPTIONS)])
def test_launchd_reads_back_what_was_meant(service: host_service.Service, options: tuple[str, ...]) -> None:
    agent = plistlib.loads(host_service.launchd_agent(service, {"APPCAT_HOME": HOME}, *options).encode())
    assert agent["EnvironmentVariables"] == {"APPCAT_HOME": HOME}
    assert agent["ProgramArguments"] == [PYTHON, "-m", f"appcat.{service.name}", "--service", *options]
    assert agent["AbandonProcessGroup"] is True  # stopping it must not end the vms it has started
