"""Real processes for tests: they say when they are ready, and none outlives its test."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

PATIENCE = 20.0
NOBODY = 65534
REPOSITORY = Path(__file__).resolve().parents[3]


def eventually(condition: Callable[[], Any]) -> Any:
    """The first true answer of ``condition``; fails the test when there is none for a long time."""
    deadline = time.monotonic() + PATIENCE
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"never became true: {condition}"
        time.sleep(0.01)
    return answer


class Child:
    """A Python process that runs ``code``; killed when the ``with`` block ends."""

    def __init__(self, code: str, *args: object) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, args)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
        )
        self.pid = self.process.pid

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        for stream in (self.process.stdin, self.process.stdout):
            if stream:
                stream.close()

    def read_line(self) -> str:
        """The next line it prints; empty when it has ended."""
        assert self.process.stdout
        return self.process.stdout.readline().rstrip("\n")

    def let_go(self) -> int:
        """End its standard input, which is what these children wait for; returns the exit status."""
        assert self.process.stdin
        self.process.stdin.close()
        return self.process.wait(PATIENCE)

    def kill(self) -> None:
        """As ``kill -9``."""
        self.process.kill()
        self.process.wait(PATIENCE)


def holding(lock: Path, verb: str) -> Child:
    """A process that holds ``lock`` to do ``verb`` until it is let go or killed."""
    code = (
        "import sys, pathlib\n"
        "from appcat.store import locks\n"
        "with locks.hold(pathlib.Path(sys.argv[1]), sys.argv[2]):\n"
        "    print('holding', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    child = Child(code, lock, verb)
    assert child.read_line() == "holding"
    return child


def fork_many(count: int, work: Callable[[int], Any]) -> list[Any]:
    """What ``work(0)`` ... ``work(count - 1)`` return, each in a process of its own, all let loose at once.

    Fails the test with the traceback of the first that raised.
    """
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(count), context.Queue()

    def run(number: int) -> None:
        try:
            barrier.wait(PATIENCE)
            results.put((number, work(number), ""))
        except BaseException:
            results.put((number, None, traceback.format_exc()))

    processes = [context.Process(target=run, args=(number,), daemon=True) for number in range(count)]
    for process in processes:
        process.start()
    outcomes = [results.get(timeout=PATIENCE) for _ in processes]
    for process in processes:
        process.join(PATIENCE)
    for _, _, failure in outcomes:
        assert not failure, failure
    return [answer for _, answer, _ in sorted(outcomes, key=lambda outcome: outcome[0])]


def as_nobody(work: Callable[[], Any]) -> Any:
    """What ``work`` returns to a user without privileges: this one, or ``nobody`` when this one is root."""
    if os.getuid() != 0:
        return work()

    def drop_and_work(_number: int) -> Any:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        return work()

    return fork_many(1, drop_and_work)[0]
