"""``exec`` and ``ssh``: commands inside a guest."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from appcat.guest import remote, ssh
from appcat.model.status import Status
from appcat.services.context import Context
from appcat.services.keys import user_key
from appcat.services.observe import show
from appcat.services.states import not_running, paused

if TYPE_CHECKING:
    import paramiko

SSH_DEADLINE = 30.0


def execute(
    ctx: Context,
    name: str,
    command: Sequence[str],
    streams: remote.Streams,
    *,
    timeout: float | None = None,
    connect_within: float = SSH_DEADLINE,
    terminal: remote.Terminal | None = None,
) -> int:
    """Run ``command`` in the guest, joined to ``streams``, and return its exit status; on a terminal if one is given.

    The arguments reach the guest as they are, without a shell taking them apart. Raises WrongState when the vm does not
    run or is paused, GuestError when its SSH server cannot be reached within ``connect_within`` seconds, and
    DeadlineExceeded after ``timeout`` seconds, having ended the command.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    within = connect_within if timeout is None else min(connect_within, timeout)
    with session(ctx, name, within) as connection:
        if terminal is not None:
            return remote.run_on_terminal(connection, command, streams, terminal, deadline)
        return remote.run(connection, command, streams, deadline)


@contextlib.contextmanager
def session(ctx: Context, name: str, connect_within: float = SSH_DEADLINE) -> Iterator[paramiko.Transport]:
    """An SSH connection to a running guest; raises NotFound, InvalidInput, WrongState, GuestError, DeadlineExceeded."""
    target = target_of(ctx, name)
    with ssh.connect(target, user_key(ctx).private, ctx.layout.vm(name).known_hosts, connect_within) as connection:
        yield connection


def ssh_command(ctx: Context, name: str, command: Sequence[str] = ()) -> list[str]:
    """The ``ssh`` command line that logs in to a running guest; its host key is known, so no question is asked."""
    target = target_of(ctx, name)
    return ssh.command_line(target, user_key(ctx).private, ctx.layout.vm(name).known_hosts, command)


def target_of(ctx: Context, name: str) -> ssh.Target:
    """Where the SSH server of a running guest should be; raises NotFound, InvalidInput, WrongState."""
    seen = show(ctx, name)
    if seen.vm is None or seen.status in (Status.STOPPED, Status.BROKEN):
        raise not_running(name, seen.status)
    if seen.status is Status.PAUSED:  # its SSH server would be silent, and be blamed for it
        raise paused(name)
    return ssh.Target(name, seen.vm.ssh_forward.address, seen.vm.ssh_port, seen.vm.login)


def reach(ctx: Context, name: str, *, within: float = 2.0) -> ssh.Target:
    """Where the guest's SSH server is, once it answers; raises WrongState, or DeadlineExceeded when it does not."""
    target = target_of(ctx, name)
    with ssh.connect(target, user_key(ctx).private, ctx.layout.vm(name).known_hosts, within):
        return target


def run_quietly(ctx: Context, name: str, command: Sequence[str], *, timeout: float = 60.0) -> tuple[int, str]:
    """Run a command that is ours, not the user's; its exit status and what it printed. Raises as ``execute``."""
    with tempfile.TemporaryFile() as output:
        status = execute(ctx, name, command, remote.Streams(None, output, output), timeout=timeout)
        output.seek(0)
        return status, output.read().decode(errors="replace").strip()
