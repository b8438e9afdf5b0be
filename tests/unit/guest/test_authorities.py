from __future__ import annotations

from pathlib import Path

import pytest

from appcat.errors import InvalidInput
from appcat.guest import authorities
from appcat.guest.authorities import read_authorities
from tests.unit.support.certificates import authority


def test_certificates_alone_are_taken_each_once(tmp_path: Path) -> None:
    (one, key), (two, _) = authority("One"), authority("Two")
    path = tmp_path / "ca.pem"
    path.write_bytes(b"# ours\n" + one + key + two + one)
    assert read_authorities(path) == one + two


@pytest.mark.parametrize(
    "content", [b"", b"certainly\n", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_file_without_certificates_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ca.pem"
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match="holds no certificates") as refused:
        read_authorities(path)
    assert refused.value.code == "invalid-ca-file"


def test_a_key_alone_is_refused_and_not_repeated(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_bytes(authority()[1])
    with pytest.raises(InvalidInput) as refused:
        read_authorities(path)
    assert path.read_text().splitlines()[1] not in refused.value.message


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.pem", tmp_path):
        with pytest.raises(InvalidInput, match="cannot be read") as refused:
            read_authorities(path)
        assert "config unset ca-certificates" in refused.value.hint


@pytest.mark.parametrize("limit", ["LARGEST", "LARGEST_FILE"])
def test_more_than_a_guest_can_be_told_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    path = tmp_path / "ca.pem"
    path.write_bytes(authority()[0])
    monkeypatch.setattr(authorities, limit, path.stat().st_size)
    assert read_authorities(path)
    monkeypatch.setattr(authorities, limit, path.stat().st_size - 1)
    with pytest.raises(InvalidInput, match="more certificates than a guest can be told"):
        read_authorities(path)
