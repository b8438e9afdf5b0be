"""Tokens: who may come in through the daemon's TCP doors.

A token is 256 random bits, shown once. Only its SHA-256 is kept: there is nothing to guess in it, so no slow hash is
needed. The file is read at each look, so that what is added, removed or expired counts at once.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from appcat.errors import AlreadyExists, Broken, NotFound, from_os_error
from appcat.model import codec
from appcat.model.name import check_name
from appcat.services.context import Context, now
from appcat.store import locks
from appcat.store.files import make_private_directory, unlink, write_atomic

KIND = codec.Kind("tokens.json", 1)
DEFAULT = "default"
PREFIX = "appcat_"
SECRET_BYTES = 32


@dataclass(frozen=True)
class Token:
    """A token by its name; times are RFC 3339 UTC, ``expires`` is None for one that does not."""

    name: str
    sha256: str
    created: str
    expires: str | None = None

    def is_expired(self, at: str) -> bool:
        """Whether it has ended by the time ``at``."""
        return self.expires is not None and self.expires <= at


@dataclass(frozen=True)
class Tokens:
    """All of them."""

    tokens: tuple[Token, ...] = ()


def tokens(ctx: Context) -> tuple[Token, ...]:
    """All tokens by name, expired ones too; raises Broken."""
    try:
        text = ctx.layout.tokens.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise _broken(ctx, str(error)) from error
    try:
        return codec.loads(Tokens, text, KIND).tokens
    except Broken as error:
        raise _broken(ctx, error.message) from error


def add(ctx: Context, name: str, expires: timedelta | None = None) -> str:
    """Make a token and return its secret, which cannot be had again; raises AlreadyExists, InvalidInput, Broken."""
    check_name(name)
    make_private_directory(ctx.layout.home)
    with locks.hold(ctx.layout.tokens_lock, "token add"):
        known = tokens(ctx)
        if any(token.name == name for token in known):
            raise AlreadyExists(
                f"there is a token called {name} already", hint=f"remove it: appcat daemon token remove {name}"
            )
        secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
        _save(ctx, (*known, Token(name, digest(secret), now(), None if expires is None else _in(expires))))
    return secret


def add_to_file(ctx: Context, name: str, target: Path, expires: timedelta | None = None) -> None:
    """As ``add``; the secret goes into a new file that only this user can read; raises AlreadyExists for an old one."""
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError as error:
        raise AlreadyExists(f"{target} exists already", hint="choose another name, or remove it") from error
    except OSError as error:
        raise from_os_error(error, f"writing {target}") from error
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(add(ctx, name, expires) + "\n")
    except BaseException:
        unlink(target)
        raise


def remove(ctx: Context, name: str) -> None:
    """Forget a token: it is refused from now on; raises NotFound, Broken."""
    make_private_directory(ctx.layout.home)
    with locks.hold(ctx.layout.tokens_lock, "token remove"):
        known = tokens(ctx)
        if all(token.name != name for token in known):
            raise NotFound(
                f"there is no token called {name}", hint="see 'appcat daemon token list'", code="token-not-found"
            )
        _save(ctx, tuple(token for token in known if token.name != name))
        if name == DEFAULT:
            unlink(ctx.layout.default_token)


def ensure_default(ctx: Context) -> None:
    """A token called ``default`` for this user's own use, its secret in a file of its own, unless there are any."""
    if not tokens(ctx):
        write_atomic(ctx.layout.default_token, add(ctx, DEFAULT) + "\n")


def find(known: tuple[Token, ...], secret: str, at: str) -> Token | None:
    """The valid token with this secret; every token is compared, each in constant time."""
    wanted = digest(secret)
    found = None
    for token in known:
        if hmac.compare_digest(token.sha256, wanted):
            found = token
    return None if found is None or found.is_expired(at) else found


def digest(secret: str) -> str:
    """What is kept of a secret."""
    return hashlib.sha256(secret.encode(errors="surrogateescape")).hexdigest()


def _in(span: timedelta) -> str:
    return (datetime.now(UTC) + span).strftime("%Y-%m-%dT%H:%M:%SZ")


def _save(ctx: Context, known: tuple[Token, ...]) -> None:
    ordered = tuple(sorted(known, key=lambda token: token.name))
    write_atomic(ctx.layout.tokens, codec.dumps(Tokens(ordered), KIND))


def _broken(ctx: Context, why: str) -> Broken:
    return Broken(f"the tokens cannot be read: {why}", hint=f"remove {ctx.layout.tokens} and make new tokens")
