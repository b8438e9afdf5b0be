from __future__ import annotations

import json
from pathlib import Path

import pytest

from appcat.daemon import audit as audits
from appcat.daemon.audit import Audit
from appcat.daemon.door import Kind, Peer
from tests.unit.daemon.behind import door

PEER = Peer(door(Kind.UNIX), "pid:7", uid=1000)


def test_log_is_bounded_and_whole_lines_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audits, "LIMIT", 2000)
    audit = Audit(tmp_path / "audit.log")
    for number in range(60):
        audit.note(PEER, "POST", f"/things/{number}", 200, 0.1)
    files = [tmp_path / "audit.log.1", tmp_path / "audit.log"]
    lines = [json.loads(line) for path in files for line in path.read_text().splitlines()]
    assert lines[-1]["path"] == "/things/59" and lines[-1]["peer"] == "pid:7"
    assert all(path.stat().st_size < 2500 and path.stat().st_mode & 0o777 == 0o600 for path in files)


def test_disk_that_cannot_be_written_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Audit(tmp_path / "nowhere" / "audit.log").note(PEER, "POST", "/x", 200, 0.1)
    assert "cannot be written" in caplog.text
