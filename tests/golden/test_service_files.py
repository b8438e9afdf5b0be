"""What the host's service manager is given, with a home that its quoting must not trip over."""

from __future__ import annotations

import plistlib
import sys

import pytest

from appcat.services import keeping
from tests.golden.golden import check

HOME = '/srv/my "vms"/$HOME & <more> 100%/back\\slash'
PYTHON = "/opt/my $tools/100%/bin/python3"


@pytest.fixture(autouse=True)
def interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", PYTHON)


def test_systemd_unit_is_as_reviewed() -> None:
    check("appcat-keeper.service.txt", keeping.systemd_unit({"PATH": "/usr/bin:/bin", "APPCAT_HOME": HOME}))


def test_launchd_agent_is_as_reviewed() -> None:
    check("org.appcat.keeper.plist.txt", keeping.launchd_agent({"PATH": "/usr/bin:/bin", "APPCAT_HOME": HOME}))


def test_launchd_reads_back_what_was_meant() -> None:
    agent = plistlib.loads(keeping.launchd_agent({"APPCAT_HOME": HOME}).encode())
    assert agent["EnvironmentVariables"] == {"APPCAT_HOME": HOME}
    assert agent["ProgramArguments"] == [PYTHON, "-m", "appcat.keeper", "--service"]
    assert agent["AbandonProcessGroup"] is True  # stopping the keeper must not end the vms it has started
