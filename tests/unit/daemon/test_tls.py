from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from appcat.daemon import tls
from appcat.errors import InvalidInput

NAMES = ["localhost", "127.0.0.1", "::1", "myhost"]


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "cert.pem", tmp_path / "key.pem"


def test_certificate_is_made_once_and_names_all(files: tuple[Path, Path]) -> None:
    first = tls.own(*files, NAMES)
    assert first.names == frozenset(NAMES)
    assert files[1].stat().st_mode & 0o777 == 0o600
    assert len(first.fingerprint) == 95 and set(first.fingerprint) <= set("0123456789ABCDEF:")
    assert tls.own(*files, NAMES).fingerprint == first.fingerprint
    assert tls.own(*files, ["localhost"]).fingerprint == first.fingerprint


def test_new_name_near_end_or_damage_make_a_new_one(files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {tls.own(*files, NAMES).fingerprint}
    seen.add(tls.own(*files, [*NAMES, "192.0.2.1"]).fingerprint)
    monkeypatch.setattr(tls, "RENEW_BEFORE", tls.LIFE + timedelta(days=1))
    seen.add(tls.own(*files, NAMES).fingerprint)
    monkeypatch.undo()
    files[1].write_text("no key")
    seen.add(tls.own(*files, NAMES).fingerprint)
    files[0].unlink()
    seen.add(tls.own(*files, NAMES).fingerprint)
    assert len(seen) == 5


def test_what_is_no_pair_is_refused(files: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        tls.load(*files)
    tls.own(*files, NAMES)
    other, _ = tls.make(frozenset(NAMES))
    files[0].write_bytes(other.public_bytes(Encoding.PEM))
    with pytest.raises(InvalidInput) as caught:
        tls.load(*files)
    assert str(files[0]) in caught.value.message
