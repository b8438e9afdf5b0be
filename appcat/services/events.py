"""Events: written by the services that make things happen, read by whoever wants to know."""

from __future__ import annotations

import contextlib
import fnmatch
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from appcat.errors import AppcatError, InvalidInput
from appcat.model.event import Event, EventKind
from appcat.model.name import shorten, suggestion
from appcat.model.vm import Vm
from appcat.services.context import Context
from appcat.store.events import BATCH, EventLog
from appcat.store.events import Lost as Lost  # raised by the log, met by whoever reads here

POLL = 0.1
KEYS = ("vm", "kind")


def record(ctx: Context, kind: EventKind, vm: Vm | str = "", /, *, uuid: str = "", **detail: object) -> Event:
    """Write down that something happened. Never raises and costs next to nothing: the verb has done its work.

    ``vm`` by its name alone is looked up for its uuid, unless that is given.
    """
    name = vm.name if isinstance(vm, Vm) else vm
    if isinstance(vm, Vm):
        uuid = vm.uuid
    elif name and not uuid:
        with contextlib.suppress(AppcatError, OSError):
            uuid = ctx.store.load(name).uuid
    return EventLog(ctx.layout).append(kind, name, uuid, detail)


def record_ready(ctx: Context, vm: Vm) -> None:
    """Write down that the vm's guest agent has answered, unless somebody did so in this life of its QEMU."""
    try:
        ctx.layout.runtime(vm.uuid).ready.touch(mode=0o600, exist_ok=False)
    except OSError:  # noted already, or it has just ended
        return
    record(ctx, EventKind.VM_READY, vm)


def list_events(ctx: Context, after: int = 0, limit: int = BATCH) -> list[Event]:
    """The first ``limit`` events after the id ``after`` (0: all that are kept); raises Lost, Unavailable."""
    return EventLog(ctx.layout).read(after, limit)


def last_id(ctx: Context) -> int:
    """The id of the newest event; 0 before the first. Raises Unavailable."""
    return EventLog(ctx.layout).last_id()


def last_events(ctx: Context, count: int) -> list[Event]:
    """The newest ``count`` events that are kept, the oldest first; raises Unavailable."""
    log = EventLog(ctx.layout)
    return log.read(max(log.last_id() - count, log.first_id() - 1), count) if count > 0 else []


def follow(
    ctx: Context,
    after: int,
    timeout: float | None = None,
    *,
    wait: Callable[[float], object] = time.sleep,
    every: float = POLL,
) -> Iterator[Event]:
    """Events after the id ``after`` as they happen, until none has come for ``timeout`` seconds (None: for ever).

    The log is looked at ``every`` so many seconds. ``wait`` sleeps as long, and may return as soon as something
    happened: with ``Listener.wait``, once in a second is enough. Raises Lost when it is overtaken, Unavailable, and
    what ``ctx.check`` raises.
    """
    log = EventLog(ctx.layout)
    mark: tuple[int, ...] | None = ()
    deadline = _deadline(timeout)
    while True:
        if (seen := log.mark()) != mark:  # looked at before the log is read: what comes in between is another mark
            mark = seen
            while batch := log.read(after, BATCH):
                for event in batch:
                    after = event.id
                    yield event
                deadline = _deadline(timeout)
        left = deadline - time.monotonic()
        if left <= 0:
            return
        ctx.check()
        wait(min(every, left))


def _deadline(timeout: float | None) -> float:
    return float("inf") if timeout is None else time.monotonic() + timeout


# --- filters


@dataclass(frozen=True)
class EventFilter:
    """``key=pattern``, as in file names: ``kind=vm.*``."""

    key: str
    pattern: str


def parse_event_filters(texts: list[str]) -> list[EventFilter]:
    """Filters from ``key=pattern`` texts, several in one when commas part them; raises InvalidInput."""
    return [_parse(part.strip()) for text in texts for part in text.split(",")]


def _parse(text: str) -> EventFilter:
    key, equals, pattern = text.partition("=")
    if key not in KEYS or not equals or not pattern:
        hint = suggestion(key, KEYS) or "write vm=NAME or kind=KIND; both may be patterns, such as kind=vm.*"
        raise InvalidInput(f"{shorten(text)} is not a filter", hint=hint, code="invalid-filter")
    if key == "kind" and not any(fnmatch.fnmatchcase(kind, pattern) for kind in EventKind):
        hint = suggestion(pattern, EventKind) or f"such as {EventKind.VM_STARTED}, or a pattern: vm.*"
        raise InvalidInput(f"there are no events of kind {shorten(pattern)}", hint=hint, code="invalid-filter")
    return EventFilter(key, pattern)


def is_wanted(event: Event, filters: list[EventFilter]) -> bool:
    """Whether, for each key, one of the filters with it holds: ``kind=vm.started,kind=vm.stopped`` wants both."""
    return all(
        any(fnmatch.fnmatchcase(getattr(event, key), wanted.pattern) for wanted in filters if wanted.key == key)
        for key in {wanted.key for wanted in filters}
    )
