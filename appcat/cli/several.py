"""One verb for several vms: side by side, every failure told, none keeping the others from being done."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from appcat.cli.engine import engine
from appcat.cli.output import INTERRUPTED, note, print_error, print_json, progress, say
from appcat.engine import Engine
from appcat.errors import AppcatError, from_os_error
from appcat.services.operations import give_up

AT_ONCE = 4

Action = Callable[[Engine, str], bool]
Outcome = tuple[str, bool, AppcatError | None]
Order = Callable[[Engine, list[str]], list[list[str]]]


def for_each(
    names: list[str], action: Action, unchanged: str, *, as_json: bool, quiet: bool = False, order: Order | None = None
) -> None:
    """Do ``action``, which says whether it changed anything, for each name; ``unchanged`` is told where it did not.

    ``order`` makes groups of the names, of which each waits for the one before. Exits with the first failure's status
    if there is one.
    """
    names = list(dict.fromkeys(names))
    with progress(quiet) as report:
        appcat = engine(report)
        groups = order(appcat, names) if order else [names]
        outcomes = [outcome for group in groups for outcome in _outcomes(group, action, appcat)]
    if as_json:
        print_json([{"name": name, "changed": changed} for name, changed, error in outcomes if error is None])
    failures = []
    for name, changed, error in outcomes:
        if error is not None:
            failures.append(error)
            print_error(error, as_json=as_json)
        elif not (as_json or quiet):
            say(name if changed else f"{name} {unchanged}")
    if failures:
        sys.exit(failures[0].exit_code)


def _outcomes(names: list[str], action: Action, appcat: Engine) -> list[Outcome]:
    if len(names) == 1:  # in this thread, where an interrupt arrives
        return [_outcome(action, appcat, names[0])]
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        return [future.result() for future in [pool.submit(_outcome, action, appcat, name) for name in names]]
    except KeyboardInterrupt:
        # At once, whatever the threads still wait for: every step is safe to be cut off.
        note(INTERRUPTED)
        give_up()
        os._exit(130)
    finally:
        pool.shutdown(wait=False)


def _outcome(action: Action, appcat: Engine, name: str) -> Outcome:
    try:
        return name, action(appcat, name), None
    except AppcatError as error:
        return name, False, error
    except OSError as error:
        return name, False, from_os_error(error, f"working on {name}")
