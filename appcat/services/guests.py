"""What the host tells a guest about itself: the identity it takes at boot, the time."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence

from appcat.errors import Broken
from appcat.guest import program
from appcat.guest.identity import (
    Identity,
    SshKey,
    clock_statement,
    document,
    entropy_statement,
    file_statement,
    statements,
)
from appcat.model.image import Image
from appcat.model.vm import Vm
from appcat.services.certificates import statements_for
from appcat.services.context import Context
from appcat.services.keys import user_key
from appcat.services.surroundings import surrounded
from appcat.store import locks

PATIENCE = 10.0
# Making a file system takes a second, on a busy host many; cut off, what is written to /data would go to memory.
DISK_HOOK_SECONDS = 110
DISK_PATIENCE = 120.0
DISK_HOOKS = "/etc/appcat/disk.d"
DISK_COUNT = "/run/appcat/disks"
CLONE_HOOKS = "/etc/appcat/clone.d"
# Under load, with a hundred clones at once, a guest takes its time.
CLONE_PATIENCE = 30.0
ENTROPY = 64


def identity_of(ctx: Context, vm: Vm, image: Image) -> Identity:
    """Who ``vm`` is; the random seed is fresh each time. Raises Broken when its host key cannot be read."""
    path = ctx.layout.vm(vm.name).host_key
    try:
        host_key = SshKey.from_openssh(path.read_bytes())
    except OSError as error:
        raise Broken(f"{path} cannot be read: {error.strerror}", hint="a vm without its host key is lost") from error
    return Identity(
        hostname=vm.inner_name,
        machine_id=vm.machine_id,
        mac=vm.nics[0].mac,
        host_key=host_key,
        authorized_key=user_key(ctx).public_line,
        ssh=image.ssh,
        home=home_of(vm.login),
        entropy=secrets.token_bytes(ENTROPY),
    )


def home_of(login: str) -> str:
    """The home directory of a guest's account."""
    return "/root" if login == "root" else f"/home/{login}"


def identity_document(ctx: Context, vm: Vm, image: Image, networks: Sequence[str]) -> str:
    """What the guest reads at boot; ``networks`` says it what it is on private ones (``neighbours``)."""
    return document("boot", whole_identity(ctx, vm, image, networks))


def whole_identity(ctx: Context, vm: Vm, image: Image, networks: Sequence[str]) -> list[str]:
    """The statements that make a guest itself, with what lies around it; raises as the parts do."""
    certificate = statements_for(ctx, vm, image)
    return surrounded(ctx, vm, [*certificate, *statements(identity_of(ctx, vm, image)), *networks])


def become(ctx: Context, vm: Vm, identity: Sequence[str], let_go: Callable[[], object]) -> None:
    """Have a guest that still stands where its base was frozen take ``identity`` as its first act.

    Whatever it takes, what must never be the same twice is new. ``let_go`` sets it going. Raises GuestError when it
    refuses, DeadlineExceeded when it does not answer.
    """
    lines = [
        entropy_statement(secrets.token_bytes(ENTROPY)),
        *identity,
        clock_statement(time.time()),
        f"hooks {CLONE_HOOKS}",
    ]
    with locks.hold(ctx.layout.vm(vm.name).agent_lock, "clone", wait=PATIENCE, check=ctx.check):
        program.request(ctx.layout.runtime(vm.uuid).guest, lines, CLONE_PATIENCE, let_go, ctx.check)


def set_clock(ctx: Context, vm: Vm) -> None:
    """Give a running guest the host's time; raises GuestError, DeadlineExceeded, Busy."""
    with locks.hold(ctx.layout.vm(vm.name).agent_lock, "set the clock", wait=PATIENCE):
        program.request(ctx.layout.runtime(vm.uuid).guest, [clock_statement(time.time())], PATIENCE)


def announce_disks(ctx: Context, vm: Vm) -> None:
    """Have a running guest look at its disks: mount a new one, grow into a larger one. Raises as ``set_clock``.

    It is told how many there are, since the news may come before the disk does.
    """
    lines = [file_statement(0o644, DISK_COUNT, f"{len(vm.disks)}\n"), f"hooks {DISK_HOOKS} {DISK_HOOK_SECONDS}"]
    with locks.hold(ctx.layout.vm(vm.name).agent_lock, "announce a disk", wait=PATIENCE):
        program.request(ctx.layout.runtime(vm.uuid).guest, lines, DISK_PATIENCE)
