"""What a host can give, asked before anything is started."""

from __future__ import annotations

import contextlib
import errno
import shutil
import socket
from collections.abc import Collection, Sequence
from pathlib import Path

import psutil

from appcat.errors import AppcatError, InsufficientMemory, InsufficientSpace, InvalidInput, PortInUse
from appcat.model.port import PortForward, Protocol
from appcat.model.size import MIB, format_size
from appcat.model.vm import Vm
from appcat.services.context import Context
from appcat.services.listening import Listening, low_limit
from appcat.store import locks

# What a vm's own files need at start: records, logs, sockets.
SPACE_TO_START = 4 * MIB
# Of its memory: what an instant clone is expected to write, and is granted.
CLONE_SHARE = 8
# An address of the range that vms' are in, and no vm's.
NOBODYS = "127.77.0.0"
# Protocol, address and port.
Claim = tuple[str, str, int]


def check_memory(ctx: Context, memory: int) -> None:
    """Raise InsufficientMemory when a vm of ``memory`` bytes does not fit this host now; the message shows the sum.

    Guests take their memory page by page, so what running vms were promised and have not touched yet counts as well.
    """
    have = psutil.virtual_memory()
    promised = sum(_untouched(ctx, name) for name in ctx.store.names())
    left = max(have.available - promised, 0)
    if memory <= left:
        return
    raise InsufficientMemory(
        f"the vm wants {format_size(memory)} of memory; of this host's {format_size(have.total)} "
        f"{format_size(have.available)} are free, {format_size(promised)} of them promised to running vms: "
        f"{format_size(left)} are left",
        hint="give it less with --memory, or stop other vms",
    )


def check_clones(ctx: Context, memories: Sequence[int]) -> None:
    """Raise InsufficientMemory when so many instant clones, of so many bytes of memory each, do not fit this host now.

    A clone takes memory only for what it writes. It is granted a share, so that many fit; one that writes all it has
    takes more than it was granted, as everywhere where memory is promised twice.
    """
    have = psutil.virtual_memory().available
    promised = sum(_untouched(ctx, name) for name in ctx.store.names())
    wanted = sum(memory // CLONE_SHARE for memory in memories)
    left = max(have - promised, 0)
    if wanted > left:
        raise InsufficientMemory(
            f"{len(memories)} clones want {format_size(wanted)} to begin with; {format_size(have)} are free, "
            f"{format_size(promised)} of them promised to running vms: {format_size(left)} are left",
            hint="make fewer, or stop other vms",
        )


def check_total_memory(name: str, memory: int) -> None:
    """Raise InsufficientMemory when this host could never give ``memory`` bytes."""
    total = psutil.virtual_memory().total
    if memory > total:
        raise InsufficientMemory(
            f"{name} would have {format_size(memory)} of memory; this host has {format_size(total)}",
            hint="give it less with --memory",
        )


def _untouched(ctx: Context, name: str) -> int:
    """Bytes that a living vm may still come to use."""
    run = ctx.store.load_run(name)
    if run is None or run.pid is None:
        return 0
    with contextlib.suppress(AppcatError, OSError, psutil.Error):
        if locks.is_held(ctx.layout.vm(name).run_lock):
            memory = ctx.store.load(name).memory
            grant = memory // CLONE_SHARE if run.base else memory
            return max(grant - psutil.Process(run.pid).memory_info().rss, 0)
    return 0


def check_space(directory: Path, wanted: int = SPACE_TO_START) -> None:
    """Raise InsufficientSpace when ``directory`` has not ``wanted`` bytes left."""
    with contextlib.suppress(FileNotFoundError):
        free = shutil.disk_usage(directory).free
        if free < wanted:
            raise InsufficientSpace(
                f"only {format_size(free)} are left on the file system of {directory}",
                hint=f"free at least {format_size(wanted)}, then try again",
            )


def check_ports(ctx: Context, vm: Vm) -> None:
    """Raise PortInUse, InvalidInput when a published port cannot be had; names its owner where that can be known."""
    for place in vm.forwards(low_limit())[1:]:
        check_port(ctx, vm.name, place)


def places_now(vm: Vm, but: Collection[Claim] = ()) -> tuple[PortForward, ...]:
    """The places on the host that a QEMU of this vm can have now: all that it is sure to have, and more if it can.

    ``but``: what QEMU was refused.
    """
    low = low_limit()
    more = (place for place in vm.extras(low) if claim_of(place) not in but and try_bind(place) is None)
    return (*vm.forwards(low), *more)


def claim_of(place: PortForward) -> Claim:
    """What of a place nobody else can have at the same time."""
    return (place.protocol, place.address, place.host)


def check_port(ctx: Context, name: str, forward: PortForward) -> None:
    """As ``check_ports``, for one place on the host of the vm ``name``."""
    failure = try_bind(forward)
    if failure is None:
        return
    where = f"{forward.address}:{forward.host}"
    if failure.errno == errno.EADDRNOTAVAIL:
        raise InvalidInput(f"{forward.address} is not an address of this host", hint="publish on 127.0.0.1 or 0.0.0.0")
    if failure.errno in (errno.EACCES, errno.EPERM):
        raise PortInUse(
            f"this user may not listen on {where}",
            hint=f"use a port from 1024 up, or: sudo sysctl net.ipv4.ip_unprivileged_port_start={forward.host}",
            code="port-not-permitted",
        )
    owner = owner_of(ctx, name, forward)
    raise PortInUse(
        f"port {where}/{forward.protocol} is in use" + (f" by {owner}" if owner else ""),
        hint="stop its owner, or publish another port",
    )


def check_number(forward: PortForward) -> None:
    """As ``check_port``, for what is published by its number by a vm that has no address yet.

    Nobody listens on its address, but somebody may on all of them.
    """
    place = forward.places(NOBODYS, low_limit())[0]
    if Listening().on_every_address(place):
        owner = _process_on(place)
        raise PortInUse(
            f"port {place.host}/{place.protocol} of every address is in use" + (f" by {owner}" if owner else ""),
            hint=f"stop its owner, or publish the port elsewhere: 127.0.0.1:PORT:{forward.guest}",
        )


def try_bind(forward: PortForward) -> OSError | None:
    """Claim the host port for a moment; the error when it cannot be had."""
    kind = socket.SOCK_DGRAM if forward.protocol is Protocol.UDP else socket.SOCK_STREAM
    with socket.socket(socket.AF_INET, kind) as probe:
        if kind is socket.SOCK_STREAM:
            # As QEMU does it: a port in TIME_WAIT is free, one that is listened on is not.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((forward.address, forward.host))
            if kind is socket.SOCK_STREAM:
                probe.listen(1)
        except OSError as error:
            return error
    return None


def owner_of(ctx: Context, name: str, forward: PortForward) -> str:
    """Who holds the host port: a vm of this home, a process of this user, or nothing when it cannot be known."""
    for other in ctx.store.names():
        if other != name and locks.is_held(ctx.layout.vm(other).run_lock):
            with contextlib.suppress(Exception):
                vm = ctx.store.load(other)
                if any(forward.clashes(theirs) for theirs in (*vm.forwards(low_limit()), *vm.extras(low_limit()))):
                    return f"the vm {other}"
    return _process_on(forward)


def _process_on(forward: PortForward) -> str:
    kind = "udp" if forward.protocol is Protocol.UDP else "tcp"
    with contextlib.suppress(psutil.Error):
        for connection in psutil.net_connections(kind):
            listens = connection.status in (psutil.CONN_LISTEN, psutil.CONN_NONE)
            if not (listens and connection.laddr and connection.pid):
                continue
            address, port = connection.laddr
            if address == "::":  # takes IPv4 as well
                address = "0.0.0.0"
            if forward.clashes(PortForward(port, 0, address, forward.protocol)):
                return f"{psutil.Process(connection.pid).name()} (process {connection.pid})"
    return ""
