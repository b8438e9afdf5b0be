from __future__ import annotations

import math
import os
import signal
import threading
import time

import pytest

from appcat.guest.patience import Errand, Signals, check_interrupted, held, interruptible


def never(seconds: float) -> bool:
    time.sleep(seconds)
    return False


def test_waiting_ends_with_what_is_waited_for_or_in_time() -> None:
    signals, event = Signals(), threading.Event()
    assert not signals.wait(event.wait, time.monotonic() + 0.3)
    assert not signals.wait(event.wait, time.monotonic() - 1)
    threading.Timer(0.3, event.set).start()
    assert signals.wait(event.wait, math.inf)
    assert signals.wait(event.wait, time.monotonic() - 1)


def test_interrupt_is_raised_where_it_is_looked_for() -> None:
    before = signal.getsignal(signal.SIGINT)
    done = []
    with pytest.raises(KeyboardInterrupt), held() as signals:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        done.append("what was being done")
        with pytest.raises(KeyboardInterrupt):
            signals.wait(never, math.inf)
        signals.look()  # two that came together count as one
        os.kill(os.getpid(), signal.SIGINT)
        done.append("the rest")
    assert done == ["what was being done", "the rest"]
    assert signal.getsignal(signal.SIGINT) is before


def test_other_threads_are_interrupted_by_their_event() -> None:
    event, seen = threading.Event(), []

    def work() -> None:
        with interruptible(event), held() as signals:
            with pytest.raises(KeyboardInterrupt):
                signals.wait(never, math.inf)
            seen.append("interrupted")
            signals.look()  # once for each time
            event.set()
            with pytest.raises(KeyboardInterrupt):
                check_interrupted()
            seen.append("again")
        check_interrupted()

    thread = threading.Thread(target=work)
    thread.start()
    event.set()
    thread.join(30)
    assert seen == ["interrupted", "again"]


def test_error_is_not_hidden_by_an_interrupt() -> None:
    with pytest.raises(ValueError, match="mine"), held():
        os.kill(os.getpid(), signal.SIGINT)
        raise ValueError("mine")


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with held() as signals:
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
            os.kill(os.getpid(), signal.SIGHUP)
            signals.look()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_other_threads_are_never_interrupted() -> None:
    def work() -> object:
        with held():
            return signal.getsignal(signal.SIGINT)

    errand = Errand(work)
    assert errand.ended(10)
    assert errand.result() is signal.getsignal(signal.SIGINT)


def test_errand_gives_what_its_call_gave_or_raised() -> None:
    answer, failure = Errand(lambda: 42), Errand(lambda: 1 // 0)
    assert answer.ended(10)
    assert (answer.succeeded(), answer.result()) == (True, 42)
    assert failure.ended(10)
    assert not failure.succeeded()
    with pytest.raises(ZeroDivisionError):
        failure.result()
    assert not Errand(threading.Event().wait).ended(0.1)
