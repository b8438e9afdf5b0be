"""Names on private networks: what a guest is told of its cards and of who else is on its networks, and when.

The boot document says it. Whoever changes who is on a network tells the members that run (``inform``), at once and for
a moment only; the keeper tells those that missed it. What a guest was told last is noted as a digest beside its
sockets, so that nobody is told twice.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import time
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from appcat.errors import AppcatError, DeadlineExceeded, NotFound
from appcat.guest import program
from appcat.guest.identity import hosts, hosts_statement, link_statements
from appcat.model.machine import HOTPLUG_PORTS
from appcat.model.vm import Vm, place_names
from appcat.qemu.argv import FIRST_PORT_SLOT, FUNCTIONS
from appcat.services.addresses import network_of
from appcat.services.census import Census
from appcat.services.context import Context
from appcat.services.networks import readable_vms
from appcat.services.observe import is_alive
from appcat.store import locks
from appcat.store.files import write_atomic

log = logging.getLogger(__name__)

# Seconds that whoever changed a network's membership spends on telling the others.
INFORM_PATIENCE = 1.5
TELL_PATIENCE = 10.0
TELLERS = 4
NEVER_AN_ALIAS = frozenset({"localhost"})


def network_statements(ctx: Context, vm: Vm, vms: Sequence[Vm] | None = None) -> list[str]:
    """What ``vm``'s guest is told of its networks, at boot and whenever it changes: names first, then its cards.

    ``vms`` are all of the home where the caller has read them already. Raises NotFound, Broken for a network.
    """
    known = readable_vms(ctx) if vms is None else vms
    lines = [hosts_statement(hosts(vm.inner_name, host_lines(vm, known)))]
    for place in vm.networks:
        address = f"{place.address}/{network_of(ctx, place).prefix}"
        lines += link_statements(interface_of(place.slot), place.mac, address)
    return lines


def interface_of(slot: int) -> str:
    """How the guest program finds the card in this slot: by the PCI address of its root port."""
    device, function = divmod(HOTPLUG_PORTS - 1 - slot, FUNCTIONS)
    return f"@{FIRST_PORT_SLOT + device:x}.{function}"


def host_lines(vm: Vm, vms: Sequence[Vm]) -> list[str]:
    """Lines of ``/etc/hosts`` for all that ``vm`` reaches by name, itself first; none when it is on no network.

    A short name stands once. It is one's own, else that of the vm that is really called so, else a fork's inner one.
    """
    on = {place.network for place in vm.networks}
    others = [(other, place) for other in vms for place in other.networks if place.network in on]
    others = [(other, place) for other, place in others if other.name != vm.name]
    others.sort(key=lambda member: (member[0].name, member[1].network))
    real = {other.name for other, _ in others}
    taken = set(NEVER_AN_ALIAS)
    lines = []
    for member, place in [*((vm, place) for place in vm.networks), *others]:
        full, name, *inner = place_names(member, place)
        short = [name, *(alias for alias in inner if member is vm or alias not in real)]
        lines.append(" ".join([place.address, full, *(alias for alias in short if alias not in taken)]))
        taken.update(short)
    return lines


def digest(statements: Sequence[str]) -> str:
    """What stands for all that a guest was told."""
    return hashlib.sha256("\n".join(statements).encode()).hexdigest()


def told(ctx: Context, vm: Vm) -> str | None:
    """The digest of what the guest was told last in this life; None where it is not known whether it can be told.

    Empty: it boots again, or did not answer, so it is only asked by who has time for that.
    """
    try:
        return ctx.layout.runtime(vm.uuid).told.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return None


def note_told(ctx: Context, vm: Vm, statements: Sequence[str]) -> None:
    """Remember what the guest has been told. One that is not noted is told again, which does no harm."""
    _note(ctx, vm.uuid, digest(statements))


def note_deaf(ctx: Context, uuid: str) -> None:
    """Remember that the guest does not answer, or boots again: what it was told is not what holds."""
    _note(ctx, uuid, "")


def _note(ctx: Context, uuid: str, text: str) -> None:
    with contextlib.suppress(AppcatError):
        write_atomic(ctx.layout.runtime(uuid).told, text, durable=False)


def tell(ctx: Context, name: str, patience: float = TELL_PATIENCE, census: Census | None = None) -> bool:
    """Tell the guest of a running vm what holds now, within so many seconds; False when it knows already.

    ``census`` is that of a caller who tells several. Raises NotFound, Broken, Busy, GuestError, DeadlineExceeded.
    """
    deadline = time.monotonic() + patience
    with locks.hold(ctx.layout.vm(name).agent_lock, "tell names", wait=patience, check=ctx.check):
        # Read when nobody else can tell it anything: so the last word is the newest.
        vms = (census or Census(ctx)).vms()
        vm = next((vm for vm in vms if vm.name == name), None) or ctx.store.load(name)
        lines = network_statements(ctx, vm, vms)
        if told(ctx, vm) == digest(lines):
            return False
        left = max(deadline - time.monotonic(), 0.1)
        try:
            program.request(ctx.layout.runtime(vm.uuid).guest, lines, left, check=ctx.check)
        except DeadlineExceeded:
            note_deaf(ctx, vm.uuid)
            raise
        note_told(ctx, vm, lines)
        return True


def inform(ctx: Context, networks: Collection[str], but: Collection[str] = ()) -> None:
    """Tell the running members of ``networks`` who is on them now, several at a time; never raises.

    After ``INFORM_PATIENCE`` seconds at most, whoever was not told by then is left to the keeper; so is at once a guest
    that is still booting, or did not answer the last time.
    """
    if not networks:
        return
    try:
        deadline = time.monotonic() + INFORM_PATIENCE
        census = Census(ctx)
        behind = [vm.name for vm in _behind(ctx, networks, census.vms()) if vm.name not in but]
        if behind:
            with ThreadPoolExecutor(min(TELLERS, len(behind))) as pool:
                pool.map(lambda name: _tell_by(ctx.undisturbed(), name, deadline, census), behind)
    except (AppcatError, OSError) as error:
        log.warning("members of %s were not told: %s", ", ".join(networks), error)


def inform_of(ctx: Context, vms: Iterable[Vm]) -> None:
    """Tell the running members of these vms' networks of them: they are new, are called otherwise, or are gone."""
    inform(ctx, {place.network for vm in vms for place in vm.networks})


def catch_up(ctx: Context, name: str) -> None:
    """Tell one running vm what it has missed, if anything; never raises, and takes ``INFORM_PATIENCE`` at most."""
    _tell_by(ctx.undisturbed(), name, time.monotonic() + INFORM_PATIENCE, Census(ctx))


def _behind(ctx: Context, networks: Collection[str], vms: Sequence[Vm]) -> list[Vm]:
    """The members of ``networks`` whose guests are up and have been told something else than what holds now."""
    members = [vm for vm in vms if any(place.network in networks for place in vm.networks)]
    awake = [vm for vm in members if ctx.layout.runtime(vm.uuid).ready.exists() and told(ctx, vm) != ""]
    up = [vm for vm in awake if can_be_told(ctx, vm)]
    return [vm for vm in up if is_behind(ctx, vm, vms)]


def is_behind(ctx: Context, vm: Vm, vms: Sequence[Vm]) -> bool:
    """Whether the guest has been told something else than what holds now; not when a network's file is damaged."""
    try:
        return told(ctx, vm) != digest(network_statements(ctx, vm, vms))
    except AppcatError as error:
        log.warning("%s cannot be told of its networks: %s", vm.name, error)
        return False


def can_be_told(ctx: Context, vm: Vm) -> bool:
    """Whether a QEMU of the vm lives, and its guest is itself: a clone first has to become that."""
    run = ctx.store.load_run(vm.name)
    return run is not None and run.begun and is_alive(ctx, vm.name)


def _tell_by(ctx: Context, name: str, deadline: float, census: Census) -> None:
    left = deadline - time.monotonic()
    try:
        if left > 0:
            tell(ctx, name, left, census)
    except NotFound:
        return  # deleted meanwhile
    except (AppcatError, OSError) as error:
        log.info("%s was not told who is on its networks, the keeper will do it: %s", name, error)
