"""``exec`` and ``ssh``: commands inside a guest."""

from __future__ import annotations

import time
from collections.abc import Sequence

from appcat.errors import WrongState
from appcat.guest import ssh
from appcat.model.status import Status
from appcat.model.vm import Vm
from appcat.services.context import Context
from appcat.services.keys import user_key
from appcat.services.observe import show

SSH_DEADLINE = 30.0


def execute(
    ctx: Context,
    name: str,
    command: Sequence[str],
    streams: ssh.Streams,
    *,
    timeout: float | None = None,
    connect_within: float = SSH_DEADLINE,
) -> int:
    """Run ``command`` in the guest, joined to ``streams``, and return its exit status.

    The arguments reach the guest as they are, without a shell taking them apart. Raises WrongState when the vm does not
    run, GuestError when its SSH server cannot be reached within ``connect_within`` seconds, and DeadlineExceeded after
    ``timeout`` seconds, having ended the command.
    """
    vm = _running(ctx, name)
    deadline = None if timeout is None else time.monotonic() + timeout
    target = ssh.Target(vm.name, "127.0.0.1", vm.ssh_port, vm.login)
    paths = ctx.layout.vm(name)
    with ssh.connect(target, user_key(ctx).private, paths.known_hosts, connect_within) as connection:
        return ssh.run(connection, command, streams, deadline)


def ssh_command(ctx: Context, name: str, command: Sequence[str] = ()) -> list[str]:
    """The ``ssh`` command line that logs in to a running guest; its host key is known, so no question is asked."""
    vm = _running(ctx, name)
    paths = ctx.layout.vm(name)
    target = ssh.Target(vm.name, "127.0.0.1", vm.ssh_port, vm.login)
    return ssh.command_line(target, user_key(ctx).private, paths.known_hosts, command)


def _running(ctx: Context, name: str) -> Vm:
    seen = show(ctx, name)
    if seen.vm is None or seen.status in (Status.STOPPED, Status.BROKEN):
        raise WrongState(f"{name} is {seen.status}", hint=f"start it: appcat vm start {name}", code="vm-not-running")
    return seen.vm
