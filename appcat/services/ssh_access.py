"""``ssh`` from elsewhere: what a client on another computer needs to log in to a guest."""

from __future__ import annotations

from appcat.errors import Broken
from appcat.model.shapes import SshAccess
from appcat.services.context import Context
from appcat.services.keys import user_key

GUEST_PORT = 22


def ssh_access(ctx: Context, name: str) -> SshAccess:
    """How to log in to the guest of ``name``; raises NotFound, InvalidInput, Broken."""
    vm = ctx.store.load(name)
    known_hosts = ctx.layout.vm(name).known_hosts
    try:
        host_key = " ".join(known_hosts.read_text(encoding="ascii").split()[1:3])
        private = user_key(ctx).private.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise Broken(f"the SSH keys of {name} cannot be read: {error}", hint="see 'appcat doctor'") from error
    return {"user": vm.login, "port": GUEST_PORT, "host_key": host_key, "private_key": private}
