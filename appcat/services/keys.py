"""The SSH key of a home, which logs in to all of its guests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from appcat.errors import Broken
from appcat.guest.identity import SshKey
from appcat.services.context import Context
from appcat.store import locks
from appcat.store.files import make_private_directory, write_atomic


@dataclass(frozen=True)
class UserKey:
    """Where the private key is, and the public one as a line for ``authorized_keys``."""

    private: Path
    public_line: str


def user_key(ctx: Context) -> UserKey:
    """This home's key, made at first need."""
    path = ctx.layout.user_key
    public = path.with_suffix(".pub")
    if not public.exists():
        make_private_directory(path.parent)
        with locks.hold(path.parent / ".lock", "make the user key"):
            if not public.exists():
                key = SshKey.generate()
                write_atomic(path, key.openssh)
                write_atomic(public, f"{key.public_line} appcat\n", 0o644)
    try:
        return UserKey(path, public.read_text(encoding="ascii").strip())
    except (OSError, UnicodeDecodeError) as error:
        raise Broken(f"{public} cannot be read", hint="remove the directory it is in; a new key is made") from error
