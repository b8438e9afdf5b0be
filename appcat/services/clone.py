"""``clone``: vms made from another: full copies, overlays on its frozen disks, or from its running memory as well."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass

from appcat.checks import TICK
from appcat.errors import AppcatError, Cancelled, InvalidInput, WrongState
from appcat.guest.identity import SshKey
from appcat.model.base import Base
from appcat.model.event import EventKind
from appcat.model.name import check_name
from appcat.model.network import Joining
from appcat.model.vm import CloneKind, Vm
from appcat.services import keeping
from appcat.services.admission import check_clones
from appcat.services.bases import layers
from appcat.services.begin import begin
from appcat.services.clone_disks import clone_disks
from appcat.services.clone_networks import check_networks, inform_of, instead, places_of_instant
from appcat.services.context import Context
from appcat.services.events import record
from appcat.services.freeze import frozen
from appcat.services.keys import user_key
from appcat.services.observe import is_alive
from appcat.services.offspring import Outcome, add, plan
from appcat.services.operations import Running, operation
from appcat.services.spots import Spots
from appcat.store import locks
from appcat.store.files import remove_tree
from appcat.store.vms import already_exists

log = logging.getLogger(__name__)

MOST_AT_A_TIME = 256
FREEZE_PATIENCE = 10.0


@dataclass(frozen=True)
class CloneRequest:
    """What the user asks for. ``kind`` None is instant for a vm that runs, else linked. A ``fork`` keeps the source's
    inner identity: name, addresses, keys. ``networks`` says where each of the source's cards goes instead of where the
    source is; for clones that are powered off, which networks they are on.
    """

    source: str
    names: tuple[str, ...]
    kind: CloneKind | None = None
    fork: bool = False
    networks: tuple[Joining, ...] | None = None


@dataclass(frozen=True)
class Cloned:
    """What came of a request. For instant clones ``stun`` is how long the source stood still, in seconds,
    ``base_seconds`` how long its base took to make and ``base_memory`` the bytes that base takes.
    """

    kind: CloneKind
    outcomes: tuple[Outcome, ...]
    stun: float = 0.0
    base_seconds: float = 0.0
    base_memory: int = 0


def numbered(name: str, count: int) -> tuple[str, ...]:
    """``n-1``, ``n-2`` ... for ``--count``; raises InvalidInput."""
    if not 1 <= count <= MOST_AT_A_TIME:
        raise InvalidInput(f"{count} clones at a time are out of range", hint=f"give between 1 and {MOST_AT_A_TIME}")
    return tuple(check_name(f"{name}-{number}") for number in range(1, count + 1))


def clone(ctx: Context, request: CloneRequest) -> Cloned:
    """Make clones of a vm; each succeeds or leaves nothing, whatever becomes of the others.

    Raises, before anything is made, NotFound, InvalidInput, AlreadyExists, WrongState, InsufficientMemory,
    InsufficientSpace, StateMismatch, Busy; QemuError when the source could not be frozen: it goes on as before.
    """
    source, kind = _admit(ctx, request)
    with operation(ctx, "clone", (request.source, *request.names)) as running:
        if kind is CloneKind.INSTANT:
            done = _instant(running.ctx, request, source)
        else:
            done = Cloned(kind, clone_disks(running.ctx, source, request.names, kind, request.networks))
        _tell(running, [request.source], [done])
        return done


def check_clone(ctx: Context, request: CloneRequest) -> None:
    """Refuse what ``clone`` would before anything is made; raises as it does."""
    _admit(ctx, request)


def _admit(ctx: Context, request: CloneRequest) -> tuple[Vm, CloneKind]:
    source = _check(ctx, request)
    kind = _kind(ctx, request)
    check_networks(ctx, source, request.names, kind, request.networks)
    return source, kind


def _kind(ctx: Context, request: CloneRequest) -> CloneKind:
    """What kind of clone is meant; raises InvalidInput, WrongState where it cannot be."""
    alive = is_alive(ctx, request.source)
    kind = request.kind or (CloneKind.INSTANT if alive else CloneKind.LINKED)
    if request.fork and kind is not CloneKind.INSTANT:
        raise InvalidInput("only an instant clone can be a fork", hint="add --instant, or leave --fork out")
    if kind is CloneKind.INSTANT and not alive:
        raise WrongState(
            f"{request.source} is stopped: there is no memory to clone",
            hint=f"start it (appcat vm start {request.source}), or clone its disks: --linked or --full",
            code="vm-not-running",
        )
    return kind


def clone_set(
    ctx: Context,
    pairs: Sequence[tuple[str, str]],
    *,
    fork: bool = False,
    networks: Mapping[str, str] | None = None,
) -> list[Cloned]:
    """Instant clones of several running vms, one each, frozen at one instant: together they are one consistent cut.

    ``networks`` says for each network of the sources which one the clones are on instead: with its twin, a set of forks
    goes on talking to itself. Raises as ``clone``.
    """
    sources = check_clone_set(ctx, pairs, fork=fork, networks=networks)
    with operation(ctx, "clone_set", [name for pair in pairs for name in pair]) as running:
        done = _clone_set(running.ctx, pairs, sources, fork, networks)
        _tell(running, [source for source, _ in pairs], done)
        return done


def check_clone_set(
    ctx: Context, pairs: Sequence[tuple[str, str]], *, fork: bool = False, networks: Mapping[str, str] | None = None
) -> list[Vm]:
    """Refuse what ``clone_set`` would before anything is made, raising as it does; the sources."""
    sources = []
    for source, name in pairs:
        request = CloneRequest(source, (name,), CloneKind.INSTANT, fork)
        vm = _check(ctx, request)
        _kind(ctx, request)
        check_networks(ctx, vm, (name,), CloneKind.INSTANT, instead(vm, networks))
        sources.append(vm)
    if strange := set(networks or ()) - {place.network for vm in sources for place in vm.networks}:
        names = ", ".join(sorted(strange))
        raise InvalidInput(f"no vm of the set is on {names}", hint="see 'appcat vm network list'")
    return sources


def _clone_set(
    ctx: Context,
    pairs: Sequence[tuple[str, str]],
    sources: Sequence[Vm],
    fork: bool,
    networks: Mapping[str, str] | None,
) -> list[Cloned]:
    check_clones(ctx, [source.memory for source in sources])
    with frozen(ctx, [source for source, _ in pairs]) as bases:
        plans = [
            (base.base, base.use, _plan_all(ctx, base.base, (name,), fork, instead(base.base.vm, networks))[0])
            for (_, name), base in zip(pairs, bases, strict=True)
        ]
        outcomes = _begin_all(ctx, plans, fork)
    keeping.ensure(ctx)
    inform_of(ctx, outcomes)
    return [
        Cloned(CloneKind.INSTANT, (outcome,), base.stun, base.seconds, base.base.memory_used)
        for outcome, base in zip(outcomes, bases, strict=True)
    ]


def _tell(running: Running, sources: Sequence[str], done: Sequence[Cloned]) -> None:
    """One event for each source, one result for the operation; it failed when nothing came of it."""
    clones: list[str] = []
    errors: dict[str, AppcatError] = {}
    for source, cloned in zip(sources, done, strict=True):
        names = [outcome.name for outcome in cloned.outcomes if outcome.vm]
        errors.update({outcome.name: outcome.error for outcome in cloned.outcomes if outcome.error})
        if names:
            clones += names
            stun = round(cloned.stun, 4)
            record(running.ctx, EventKind.VM_CLONED, source, names=names, kind=str(cloned.kind), stun=stun)
    failed = [{"name": name, "code": error.code, "message": error.message} for name, error in errors.items()]
    running.result(
        {"clones": clones, "failed": failed, "stun": round(max((cloned.stun for cloned in done), default=0.0), 4)}
    )
    if errors and not clones:
        running.failed(next(iter(errors.values())))


def _check(ctx: Context, request: CloneRequest) -> Vm:
    source = ctx.store.load(request.source)
    if not request.names:
        raise InvalidInput("a clone needs a name", hint=f"appcat vm clone {request.source} NAME")
    if len(set(request.names)) != len(request.names):
        raise InvalidInput("a name is given twice", hint="give each clone a name of its own")
    if len(request.names) > MOST_AT_A_TIME:
        raise InvalidInput(f"at most {MOST_AT_A_TIME} clones are made at a time", hint="ask again for the rest")
    for name in request.names:
        check_name(name)
        if ctx.layout.vm(name).root.exists():
            raise already_exists(name)
    return source


def _instant(ctx: Context, request: CloneRequest, source: Vm) -> Cloned:
    check_clones(ctx, [source.memory] * len(request.names))
    with frozen(ctx, [request.source]) as (made,):
        planned = _plan_all(ctx, made.base, request.names, request.fork, request.networks)
        outcomes = _begin_all(ctx, [(made.base, made.use, vm) for vm in planned], request.fork)
    keeping.ensure(ctx)
    inform_of(ctx, outcomes)
    return Cloned(CloneKind.INSTANT, outcomes, made.stun, made.seconds, made.base.memory_used)


def _plan_all(
    ctx: Context, base: Base, names: Sequence[str], fork: bool, networks: Sequence[Joining] | None
) -> list[Vm]:
    """The clones' directories, all at once; one that is never begun is a stopped vm like any other."""
    user_key(ctx)
    key = SshKey.from_openssh(ctx.layout.vm(base.vm.name).host_key.read_bytes()) if fork else None
    files = [layers(ctx).path(disk.file) for disk in base.vm.disks]
    planned = []
    with locks.hold(ctx.layout.home_lock, f"clone {base.vm.name}"):
        spots = Spots(ctx)
        places = places_of_instant(ctx, base.vm, names, networks, fork)
        for name in names:
            ctx.check()
            vm = plan(base.vm, name, CloneKind.INSTANT, spots, places[name], fork)
            add(ctx, vm, files, CloneKind.INSTANT, key)
            planned.append(vm)
    return planned


def _begin_all(ctx: Context, plans: Sequence[tuple[Base, int, Vm]], fork: bool) -> tuple[Outcome, ...]:
    """As many at a time as there are processors; what fails leaves nothing."""
    if len(plans) == 1:  # in this thread, where an interrupt arrives
        return (_begin_one(ctx, plans[0], fork, time.monotonic()),)
    step = f"starting {len(plans)} clones"
    ctx.progress(step, 0, len(plans))
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 4)) as pool:
        futures = [pool.submit(_begin_one, ctx, plan, fork, None) for plan in plans]
        try:
            pending = set(futures)
            while pending:
                done, pending = wait(pending, TICK, FIRST_COMPLETED)
                ctx.check()
                if done:
                    ctx.progress(step, len(plans) - len(pending), len(plans))
            return tuple(future.result() for future in futures)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _begin_one(ctx: Context, plan: tuple[Base, int, Vm], fork: bool, begun: float | None) -> Outcome:
    base, use, vm = plan
    begun = begun or time.monotonic()
    try:
        with locks.hold(ctx.layout.vm(vm.name).op_lock, "clone", check=ctx.check):
            try:
                running = begin(ctx, vm, base, use, fork=fork)
            except BaseException:
                ctx.store.remove(vm.name)
                record(ctx, EventKind.VM_DELETED, vm)
                remove_tree(ctx.layout.runtime(vm.uuid).root)
                raise
        return Outcome(vm.name, running, time.monotonic() - begun)
    except Cancelled:
        raise
    except AppcatError as error:
        return Outcome(vm.name, error=error)
