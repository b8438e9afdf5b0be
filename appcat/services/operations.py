"""Operations: a long verb leaves a record while it is at work, can be called off, and says what came of it.

A verb becomes one by its decorator (``tracked``), whoever calls it: command line, daemon or kept. A verb that another
one calls is part of that one's operation. A record that cannot be written (a full disk) keeps no verb from its work.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

from appcat.errors import AppcatError, Cancelled, DeadlineExceeded, WrongState, from_os_error
from appcat.model.event import EventKind
from appcat.model.operation import Failure, Operation, OperationState
from appcat.services.context import Context
from appcat.services.events import record
from appcat.store.events import timestamp
from appcat.store.operations import OperationStore, new_id

log = logging.getLogger(__name__)

SAVE_EVERY = 0.2
POLL = 0.05
PRUNE_ONE_IN = 64

P = ParamSpec("P")
R = TypeVar("R")


@dataclasses.dataclass
class Running:
    """An operation at work. ``ctx`` is what the work is to be done with: it reports progress, and is called off."""

    ctx: Context
    id: str
    outcome: dict[str, object] | None = None
    failure: AppcatError | None = None

    def result(self, data: dict[str, object]) -> None:
        """What came of it, as plain data."""
        self.outcome = data

    def failed(self, error: AppcatError) -> None:
        """It did not work out, although nothing is raised."""
        self.failure = error


class Prepared:
    """An operation that is recorded and has an id, and whose work begins later, perhaps in another thread.

    ``run`` is entered once. If that never comes about, ``abandon`` says why.
    """

    def __init__(self, ctx: Context, verb: str, vms: Sequence[str], origin: str, identifier: str) -> None:
        self._ctx = ctx
        self._record = _Record(ctx, verb, tuple(vms), origin, identifier)

    @property
    def id(self) -> str:
        """Its id."""
        return self._record.operation.id

    @property
    def operation(self) -> Operation:
        """The record as it is now."""
        return self._record.operation

    @contextlib.contextmanager
    def run(self) -> Iterator[Running]:
        """Do the work; what it raises is recorded, and raised. Raises Cancelled if it was called off before."""
        kept = self._record
        ctx = self._ctx.but(
            progress=kept.progress_through(self._ctx.progress),
            check=kept.check_through(self._ctx.check),
            operation=self.id,
        )
        running = Running(ctx, self.id)
        try:
            kept.check()
            yield running
        except BaseException as error:
            kept.end(_state_of(error), error=_failure_of(error))
            raise
        if running.failure is not None:
            kept.end(OperationState.FAILED, Failure.of(running.failure), running.outcome)
        else:
            kept.end(OperationState.SUCCEEDED, result=running.outcome)

    def abandon(self, error: AppcatError) -> None:
        """Its work will never begin."""
        self._record.end(_state_of(error), Failure.of(error))


def prepare(ctx: Context, verb: str, vms: Sequence[str], origin: str = "", id: str | None = None) -> Prepared:  # noqa: A002
    """Record an operation before its work begins; ``origin`` is the context's unless given."""
    return Prepared(ctx, verb, vms, origin or ctx.origin, id or "")


@contextlib.contextmanager
def operation(
    ctx: Context,
    verb: str,
    vms: Sequence[str],
    *,
    origin: str = "",
    id: str | None = None,  # noqa: A002
) -> Iterator[Running]:
    """Record what is done in the block, with ``Running.ctx``, as one operation.

    In the context of an operation it is nothing of its own: one record for all that a verb does. What the block raises
    is recorded and raised: AppcatError as failed, KeyboardInterrupt and Cancelled as cancelled, all else as failed.
    """
    if ctx.operation:
        yield Running(ctx, ctx.operation)
        return
    with prepare(ctx, verb, vms, origin, id).run() as running:
        yield running


def tracked(
    verb: str, vms: Callable[..., Sequence[str]], result: Callable[[Any], dict[str, object]] | None = None
) -> Callable[[Callable[Concatenate[Context, P], R]], Callable[Concatenate[Context, P], R]]:
    """Make a service function an operation.

    ``vms`` names those concerned from the function's own arguments and refuses, by raising, what is not to be recorded.
    ``result`` makes plain data of what the function returns.
    """

    def decorate(function: Callable[Concatenate[Context, P], R]) -> Callable[Concatenate[Context, P], R]:
        @functools.wraps(function)
        def run(ctx: Context, /, *args: P.args, **kwargs: P.kwargs) -> R:
            if ctx.operation:
                return function(ctx, *args, **kwargs)
            with operation(ctx, verb, vms(ctx, *args, **kwargs)) as running:
                done = function(running.ctx, *args, **kwargs)
                if result is not None:
                    running.result(result(done))
                return done

        return run

    return decorate


def existing(ctx: Context, name: str, *_: object, **__: object) -> tuple[str]:
    """For ``tracked``: a vm that must be there; raises NotFound, InvalidInput."""
    ctx.store.find(name)
    return (name,)


# --- looking, and calling off


def list_operations(ctx: Context, state: OperationState | None = None) -> list[Operation]:
    """Every operation that is kept, the oldest first; those whose record is damaged are left out."""
    found = OperationStore(ctx.layout).all()
    return [one for one in found if state is None or one.state is state]


def show_operation(ctx: Context, id: str) -> Operation:  # noqa: A002
    """One operation; raises NotFound, Broken."""
    return OperationStore(ctx.layout).load(id)


def cancel(ctx: Context, id: str) -> Operation:  # noqa: A002
    """Ask an operation to stop; it does so within about half a second, where that does no harm.

    Raises NotFound, Broken, WrongState when it has ended.
    """
    store = OperationStore(ctx.layout)
    _require_running(store.load(id))
    store.request_cancel(id)
    seen = store.load(id)
    if seen.is_over:  # it has ended meanwhile, perhaps because of this
        with contextlib.suppress(OSError):
            ctx.layout.operation(id).cancel.unlink(missing_ok=True)
        if seen.state is not OperationState.CANCELLED:
            _require_running(seen)
    return seen


def wait_operation(ctx: Context, id: str, timeout: float) -> Operation:  # noqa: A002
    """The operation once it is over; raises DeadlineExceeded after ``timeout`` seconds, NotFound, Broken."""
    deadline = time.monotonic() + timeout
    while not (seen := show_operation(ctx, id)).is_over:
        if time.monotonic() >= deadline:
            raise DeadlineExceeded(
                f"operation {id} ({seen.verb}) was not over within {timeout:g} s",
                hint=f"see 'appcat operation show {id}', or end it: appcat operation cancel {id}",
            )
        ctx.check()
        time.sleep(POLL)
    return seen


def prune(ctx: Context) -> None:
    """Forget old operations; never raises."""
    try:
        OperationStore(ctx.layout).prune()
    except (AppcatError, OSError) as error:
        log.warning("old operations could not be removed: %s", error)


def give_up() -> None:
    """Record every operation of this process as cancelled, for who is about to end it without unwinding."""
    for kept in list(_AT_WORK):
        kept.end(OperationState.CANCELLED, _failure_of(KeyboardInterrupt()))


def _require_running(seen: Operation) -> None:
    if seen.is_over:
        raise WrongState(
            f"operation {seen.id} ({seen.verb}) is over: {seen.state}",
            hint=f"see 'appcat operation show {seen.id}'",
            code="operation-ended",
        )


# --- the record


class _Record:
    """The record of one operation, kept by the process that executes it; for several threads."""

    def __init__(self, ctx: Context, verb: str, vms: tuple[str, ...], origin: str, identifier: str) -> None:
        self._ctx = ctx
        self._store = OperationStore(ctx.layout)
        self._mutex = threading.RLock()
        self._lock: int | None = None
        self._saved = 0.0
        self._is_saved = True
        identifier = self._begin(identifier)
        self.operation = Operation(
            id=identifier,
            verb=verb,
            vms=vms,
            state=OperationState.RUNNING,
            created=timestamp(),
            pid=os.getpid(),
            origin=origin,
        )
        self._save()
        self._tell(EventKind.OPERATION_STARTED)
        _AT_WORK.add(self)

    def progress_through(self, report: Callable[[str, int, int], None]) -> Callable[[str, int, int], None]:
        """A progress callback that goes to the record as well, and is a check."""

        def progress(step: str, done: int, total: int) -> None:
            with self._mutex:
                self.operation = dataclasses.replace(self.operation, step=step, done=done, total=total)
                self._is_saved = False
            report(step, done, total)
            self.check()

        return progress

    def check_through(self, check: Callable[[], None]) -> Callable[[], None]:
        """The check of the work; what an outer one raises counts as well."""

        def checked() -> None:
            check()
            self.check()

        return checked

    def check(self) -> None:
        """Raise Cancelled when somebody has asked for it. Progress that was held back is written by and by."""
        if not self._is_saved and time.monotonic() - self._saved >= SAVE_EVERY:
            with self._mutex:
                self._save()
        if self._lock is not None and self._store.cancel_requested(self.operation.id):
            raise Cancelled(
                f"{self.operation.verb} was cancelled",
                hint=f"see what it left: appcat operation show {self.operation.id}, appcat vm list",
            )

    def end(self, state: OperationState, error: Failure | None = None, result: dict[str, object] | None = None) -> None:
        """Say how it ended, and let go; the first to say so is right."""
        with self._mutex:
            if self.operation.state is not OperationState.RUNNING:
                return
            cancelled = self._lock is not None and self._store.cancel_requested(self.operation.id)
            self.operation = dataclasses.replace(
                self.operation,
                state=state,
                ended=timestamp(),
                error=error,
                result=result,
                cancel_requested=cancelled,
            )
            self._save()
            if self._lock is not None:
                self._store.end(self.operation.id, self._lock)
                self._lock = None
        _AT_WORK.discard(self)
        self._tell(EventKind.OPERATION_ENDED, state=str(state))
        if int(self.operation.id[-3:], 16) % PRUNE_ONE_IN == 0:
            prune(self._ctx)

    def _begin(self, identifier: str) -> str:
        try:
            identifier, self._lock = self._store.begin(identifier)
        except (AppcatError, OSError) as error:
            log.warning("the operation is not recorded: %s", error)
            identifier = identifier or new_id()
        return identifier

    def _save(self) -> None:
        self._saved, self._is_saved = time.monotonic(), True
        if self._lock is None:
            return
        try:
            self._store.save(self.operation)
        except AppcatError as error:
            log.warning("operation %s is not recorded: %s", self.operation.id, error)

    def _tell(self, kind: EventKind, **detail: str) -> None:
        told = self.operation
        vm = told.vms[0] if len(told.vms) == 1 else ""
        record(self._ctx, kind, vm, id=told.id, verb=told.verb, vms=list(told.vms), origin=told.origin, **detail)


_AT_WORK: set[_Record] = set()


def _state_of(error: BaseException) -> OperationState:
    called_off = isinstance(error, KeyboardInterrupt | Cancelled)
    return OperationState.CANCELLED if called_off else OperationState.FAILED


def _failure_of(error: BaseException) -> Failure:
    if isinstance(error, AppcatError):
        return Failure.of(error)
    if isinstance(error, OSError):
        return Failure.of(from_os_error(error, "talking to the system"))
    if isinstance(error, KeyboardInterrupt):
        return Failure(Cancelled.code, "it was interrupted", exit_code=Cancelled.exit_code)
    return Failure("internal", f"appcat has a fault: {type(error).__name__}: {error}")
