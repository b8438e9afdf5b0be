from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from appcat.errors import AlreadyExists, Broken, InvalidInput, NotFound
from appcat.services import tokens
from appcat.services.context import Context, now


def names(ctx: Context) -> list[str]:
    return [token.name for token in tokens.tokens(ctx)]


def test_secret_is_shown_once_and_only_its_hash_is_kept(ctx: Context) -> None:
    secret = tokens.add(ctx, "ci")
    assert len(secret) > 43 and secret != tokens.add(ctx, "other")
    text = ctx.layout.tokens.read_text()
    assert secret not in text and secret.removeprefix(tokens.PREFIX) not in text
    assert ctx.layout.tokens.stat().st_mode & 0o777 == 0o600


def test_token_is_found_by_its_secret_alone(ctx: Context) -> None:
    secret = tokens.add(ctx, "ci")
    tokens.add(ctx, "another")
    known = tokens.tokens(ctx)
    found = tokens.find(known, secret, now())
    assert found is not None and found.name == "ci"
    for wrong in ("", secret[:-1], secret.upper(), found.sha256, "\udcff", "ü"):
        assert tokens.find(known, wrong, now()) is None


def test_expired_token_is_not_found_but_listed(ctx: Context) -> None:
    secret = tokens.add(ctx, "ci", timedelta(hours=1))
    known = tokens.tokens(ctx)
    assert tokens.find(known, secret, now())
    assert tokens.find(known, secret, known[0].expires or "") is None
    assert names(ctx) == ["ci"]


def test_names_are_unique_and_valid(ctx: Context) -> None:
    tokens.add(ctx, "ci")
    with pytest.raises(AlreadyExists):
        tokens.add(ctx, "ci")
    with pytest.raises(InvalidInput):
        tokens.add(ctx, "C I")


def test_remove(ctx: Context) -> None:
    tokens.add(ctx, "b")
    tokens.add(ctx, "a")
    assert names(ctx) == ["a", "b"]
    tokens.remove(ctx, "b")
    assert names(ctx) == ["a"]
    with pytest.raises(NotFound) as caught:
        tokens.remove(ctx, "b")
    assert caught.value.code == "token-not-found"


def test_default_token_is_made_only_where_there_is_none(ctx: Context) -> None:
    tokens.ensure_default(ctx)
    secret = ctx.layout.default_token.read_text().strip()
    assert ctx.layout.default_token.stat().st_mode & 0o777 == 0o600
    assert tokens.find(tokens.tokens(ctx), secret, now())
    tokens.ensure_default(ctx)
    assert ctx.layout.default_token.read_text().strip() == secret
    tokens.remove(ctx, "default")
    assert not ctx.layout.default_token.exists()
    tokens.add(ctx, "ci")
    tokens.ensure_default(ctx)
    assert names(ctx) == ["ci"]


def test_secret_goes_into_a_new_private_file(ctx: Context, tmp_path: Path) -> None:
    target = tmp_path / "ci.token"
    tokens.add_to_file(ctx, "ci", target)
    assert target.stat().st_mode & 0o777 == 0o600
    assert tokens.find(tokens.tokens(ctx), target.read_text().strip(), now())
    with pytest.raises(AlreadyExists):
        tokens.add_to_file(ctx, "more", target)
    assert names(ctx) == ["ci"]
    with pytest.raises(AlreadyExists):
        tokens.add_to_file(ctx, "ci", tmp_path / "again.token")
    assert not (tmp_path / "again.token").exists()


@pytest.mark.parametrize("text", ["", "{}", '{"schema": 1, "tokens": [{"name": "x"}]}', '{"schema": 99}'])
def test_damaged_file_is_told(ctx: Context, text: str) -> None:
    ctx.layout.tokens.write_text(text)
    with pytest.raises(Broken) as caught:
        tokens.tokens(ctx)
    assert str(ctx.layout.tokens) in caught.value.hint
