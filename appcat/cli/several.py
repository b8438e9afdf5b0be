"""One verb for several vms: side by side, every failure told, none keeping the others from being done."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from appcat.app import App
from appcat.cli.output import print_error, print_json, progress, say
from appcat.errors import AppcatError
from appcat.services.context import Context

AT_ONCE = 4


def for_each(names: list[str], action: Callable[[Context, str], bool], unchanged: str, *, as_json: bool) -> None:
    """Do ``action``, which says whether it changed anything, for each name; ``unchanged`` is told where it did not.

    Exits with the first failure's status if there is one.
    """
    with progress() as report, ThreadPoolExecutor(AT_ONCE) as pool:
        context = App.load(report).context
        futures = [(name, pool.submit(action, context, name)) for name in dict.fromkeys(names)]
        outcomes = [(name, *_outcome(future)) for name, future in futures]
    if as_json:
        print_json([{"name": name, "changed": changed} for name, changed, error in outcomes if error is None])
    failures = []
    for name, changed, error in outcomes:
        if error is not None:
            failures.append(error)
            print_error(error, as_json=as_json)
        elif not as_json:
            say(name if changed else f"{name} {unchanged}")
    if failures:
        sys.exit(failures[0].exit_code)


def _outcome(future: Future[bool]) -> tuple[bool, AppcatError | None]:
    try:
        return future.result(), None
    except AppcatError as error:
        return False, error
