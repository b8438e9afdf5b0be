"""``exec`` and ``ssh``: commands inside a guest."""

from __future__ import annotations

import time
from collections.abc import Sequence

from appcat.errors import WrongState
from appcat.guest import remote, ssh
from appcat.model.status import Status
from appcat.services.context import Context
from appcat.services.keys import user_key
from appcat.services.observe import show

SSH_DEADLINE = 30.0


def execute(
    ctx: Context,
    name: str,
    command: Sequence[str],
    streams: remote.Streams,
    *,
    timeout: float | None = None,
    connect_within: float = SSH_DEADLINE,
) -> int:
    """Run ``command`` in the guest, joined to ``streams``, and return its exit status.

    The arguments reach the guest as they are, without a shell taking them apart. Raises WrongState when the vm does not
    run, GuestError when its SSH server cannot be reached within ``connect_within`` seconds, and DeadlineExceeded after
    ``timeout`` seconds, having ended the command.
    """
    target = _target(ctx, name)
    deadline = None if timeout is None else time.monotonic() + timeout
    within = connect_within if timeout is None else min(connect_within, timeout)
    with ssh.connect(target, user_key(ctx).private, ctx.layout.vm(name).known_hosts, within) as connection:
        return remote.run(connection, command, streams, deadline)


def ssh_command(ctx: Context, name: str, command: Sequence[str] = ()) -> list[str]:
    """The ``ssh`` command line that logs in to a running guest; its host key is known, so no question is asked."""
    target = _target(ctx, name)
    return ssh.command_line(target, user_key(ctx).private, ctx.layout.vm(name).known_hosts, command)


def _target(ctx: Context, name: str) -> ssh.Target:
    seen = show(ctx, name)
    if seen.vm is None or seen.status in (Status.STOPPED, Status.BROKEN):
        raise WrongState(f"{name} is {seen.status}", hint=f"start it: appcat vm start {name}", code="vm-not-running")
    return ssh.Target(name, seen.vm.ssh_forward.address, seen.vm.ssh_port, seen.vm.login)
