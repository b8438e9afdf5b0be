"""What the host tells a guest about itself: the identity it takes at boot, the time."""

from __future__ import annotations

import secrets
import time

from appcat.errors import Broken
from appcat.guest import program
from appcat.guest.identity import Identity, SshKey, clock_statement, document, statements
from appcat.model.image import Image
from appcat.model.vm import Vm
from appcat.services.context import Context
from appcat.services.keys import user_key
from appcat.store import locks

PATIENCE = 10.0


def identity_of(ctx: Context, vm: Vm, image: Image) -> Identity:
    """Who ``vm`` is; the random seed is fresh each time. Raises Broken when its host key cannot be read."""
    path = ctx.layout.vm(vm.name).host_key
    try:
        host_key = SshKey.from_openssh(path.read_bytes())
    except OSError as error:
        raise Broken(f"{path} cannot be read: {error.strerror}", hint="a vm without its host key is lost") from error
    return Identity(
        hostname=vm.name,
        machine_id=vm.machine_id,
        mac=vm.nics[0].mac,
        host_key=host_key,
        authorized_key=user_key(ctx).public_line,
        ssh=image.ssh,
        home="/root" if vm.login == "root" else f"/home/{vm.login}",
        entropy=secrets.token_bytes(64),
    )


def identity_document(ctx: Context, vm: Vm, image: Image) -> str:
    """What the guest reads at boot."""
    return document("boot", statements(identity_of(ctx, vm, image)))


def set_clock(ctx: Context, vm: Vm) -> None:
    """Give a running guest the host's time; raises GuestError, DeadlineExceeded, Busy."""
    with locks.hold(ctx.layout.vm(vm.name).agent_lock, "set the clock", wait=PATIENCE):
        program.request(ctx.layout.runtime(vm.uuid).guest, [clock_statement(time.time())], PATIENCE)
