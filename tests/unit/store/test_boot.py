from __future__ import annotations

from pathlib import Path

import pytest

from appcat.store import boot


def test_one_boot_has_one_id() -> None:
    assert boot.boot_id() == boot.boot_id() != ""


def test_boot_time_serves_where_the_kernel_has_no_id(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(boot, "BOOT_ID", tmp_path / "missing")
    assert boot.boot_id().startswith("booted-")
    assert boot.boot_id() == boot.boot_id()
