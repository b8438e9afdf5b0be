"""One verb for several vms: side by side, every failure told, none keeping the others from being done."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from appcat.app import App
from appcat.cli.output import print_error, progress, say
from appcat.errors import AppcatError
from appcat.services.context import Context

T = TypeVar("T")
AT_ONCE = 4


def for_each(names: list[str], action: Callable[[Context, str], T], result: Callable[[str, T], str]) -> None:
    """Do ``action`` for each name and print its ``result``; exits with the first failure's status if there is one."""
    unique = list(dict.fromkeys(names))
    failures: list[AppcatError] = []
    with progress() as report, ThreadPoolExecutor(AT_ONCE) as pool:
        context = App.load(report).context
        futures: list[tuple[str, Future[T]]] = [(name, pool.submit(action, context, name)) for name in unique]
        done = [(name, *_outcome(future)) for name, future in futures]
    for name, value, error in done:
        if error is None:
            say(result(name, value))  # type: ignore[arg-type]
        else:
            failures.append(error)
            print_error(error, as_json=False)
    if failures:
        sys.exit(failures[0].exit_code)


def _outcome(future: Future[T]) -> tuple[T | None, AppcatError | None]:
    try:
        return future.result(), None
    except AppcatError as error:
        return None, error
