"""Waiting that ends: at its deadline, and on an interrupt.

Neither is to be had for nothing. paramiko waits for a server's answers without end. And Python raises KeyboardInterrupt
wherever the main thread happens to be: amid a library's locks that leaves them held, or lets go of them twice. Yet a
wait without a limit does not notice a signal at all that came between CPython's last look for signals and the system
call that waits: the signal's handler in C has run, and nothing is left that would wake the thread.

So signals are noted while they are ``held``, what may wait without end is an ``Errand`` of another thread, and the
caller looks after both several times a second. Signals reach the main thread alone: what any other does in a daemon's
service is interrupted by an event (``interruptible``), and ends in the same way.
"""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from types import FrameType
from typing import Any, Generic, TypeVar

TICK = 0.1
_INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)

Handler = Callable[[int, FrameType | None], Any]
Result = TypeVar("Result")

_interrupter: ContextVar[threading.Event | None] = ContextVar("interrupter", default=None)


@contextlib.contextmanager
def interruptible(by: threading.Event) -> Iterator[None]:
    """Whoever sets ``by`` interrupts what this thread waits for in the block: KeyboardInterrupt, once for each time."""
    token = _interrupter.set(by)
    try:
        yield
    finally:
        _interrupter.reset(token)


def check_interrupted() -> None:
    """Raise KeyboardInterrupt when somebody has set this thread's event since the last look."""
    event = _interrupter.get()
    if event is not None and event.is_set():
        event.clear()
        raise KeyboardInterrupt


class Signals:
    """The signals that came while they were held, to be handled where that does no harm."""

    def __init__(self) -> None:
        self._handlers: dict[int, Handler] = {}
        self._noted: list[int] = []

    def hold(self) -> None:
        """From now on note what has a handler in Python, such as the one that raises KeyboardInterrupt."""
        for number in _INTERRUPTS:
            handler = signal.getsignal(number)
            if callable(handler):
                self._handlers[number] = handler
                signal.signal(number, self._note)

    def release(self) -> None:
        """Handle signals as before."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def look(self) -> None:
        """Do what the handlers of noted signals do: raise KeyboardInterrupt, as a rule. Several count as one."""
        noted, self._noted = self._noted, []
        for number in noted:
            self._handlers[number](number, None)
        check_interrupted()

    def wait(self, ready: Callable[[float], bool], until: float) -> bool:
        """Whether ``ready`` told so by ``until`` (monotonic seconds); its argument is how many seconds it may wait.

        Raises what handlers raise.
        """
        while True:
            self.look()
            left = max(until - time.monotonic(), 0.0)
            if ready(min(left, TICK)):
                return True
            if left == 0:
                return False

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._noted.append(number)


@contextlib.contextmanager
def held() -> Iterator[Signals]:
    """Note signals while the block runs; one that was not looked at is handled at its end, unless that is an error."""
    signals = Signals()
    try:
        if threading.current_thread() is threading.main_thread():  # no other is interrupted
            signals.hold()
        yield signals
    finally:
        signals.release()
    signals.look()


class Errand(threading.Thread, Generic[Result]):
    """A call that may wait without end, begun at once by a thread that nobody has to wait for."""

    def __init__(self, call: Callable[[], Result]) -> None:
        super().__init__(daemon=True)
        self._call = call
        self._results: list[Result] = []
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        """Make the call."""
        try:
            self._results.append(self._call())
        except BaseException as error:  # told to whoever asks for the result
            self._error = error

    def ended(self, within: float) -> bool:
        """Whether it came to an end within so many seconds."""
        return has_ended(self, within)

    def succeeded(self) -> bool:
        """Whether there is a result by now."""
        return bool(self._results)

    def result(self) -> Result:
        """What the call that has ended gave; raises what it raised."""
        if self._error is not None:
            raise self._error
        return self._results[0]


def has_ended(thread: threading.Thread, within: float) -> bool:
    """Whether the thread came to an end within so many seconds."""
    thread.join(within)
    return not thread.is_alive()
