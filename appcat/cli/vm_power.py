"""``appcat vm start``, ``stop`` and the other verbs that change whether a vm runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from appcat.cli.options import WEEK, Json, Names, Quiet, StartWait, StopWait

if TYPE_CHECKING:
    from appcat.engine import Engine

NoWait = Annotated[bool, typer.Option("--no-wait", help="Do not wait for the guest.")]


def start(
    names: Names, no_wait: NoWait = False, timeout: StartWait = None, quiet: Quiet = False, as_json: Json = False
) -> None:
    """Start vms and wait until their guests answer.

    \b
    Examples:
      appcat vm start web db
      appcat vm start $(appcat vm list -q --filter status=stopped)
    """
    from appcat.cli.several import for_each

    def start_one(appcat: Engine, name: str) -> bool:
        return appcat.start(name, ready_within=timeout, wait=not no_wait)

    for_each(names, start_one, "is running already", as_json=as_json, quiet=quiet)


def stop(names: Names, timeout: StopWait = None, quiet: Quiet = False, as_json: Json = False) -> None:
    """Ask guests to power off, and wait until they have.

    \b
    Examples:
      appcat vm stop web
      appcat vm stop web --timeout 300 || appcat vm kill web
    """
    from appcat.cli.several import for_each

    def stop_one(appcat: Engine, name: str) -> bool:
        return appcat.stop(name, timeout=timeout)

    for_each(names, stop_one, "is stopped already", as_json=as_json, quiet=quiet)


def restart(
    names: Names,
    force: Annotated[bool, typer.Option("--force", "-f", help="Cut the power instead of asking the guest.")] = False,
    no_wait: NoWait = False,
    timeout: StopWait = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Stop vms and start them again; stopped ones are started."""
    from appcat.cli.several import for_each

    def restart_one(appcat: Engine, name: str) -> bool:
        return appcat.restart(name, force=force, timeout=timeout, wait=not no_wait)

    for_each(names, restart_one, "", as_json=as_json, quiet=quiet)


def pause(names: Names, quiet: Quiet = False, as_json: Json = False) -> None:
    """Halt vms where they are.

    They keep their memory and take no processor time.
    """
    from appcat.cli.several import for_each

    for_each(names, lambda appcat, name: appcat.pause(name), "is paused already", as_json=as_json, quiet=quiet)


def unpause(names: Names, quiet: Quiet = False, as_json: Json = False) -> None:
    """Let paused vms go on; their clocks are corrected."""
    from appcat.cli.several import for_each

    for_each(names, lambda appcat, name: appcat.unpause(name), "is not paused", as_json=as_json, quiet=quiet)


def kill(names: Names, quiet: Quiet = False, as_json: Json = False) -> None:
    """End vms at once, as if the power was cut."""
    from appcat.cli.several import for_each

    for_each(names, lambda appcat, name: appcat.kill(name), "is stopped already", as_json=as_json, quiet=quiet)


def wait(
    names: Names,
    until: Annotated[
        str, typer.Option("--for", help="ready (the guest answers), running, paused, stopped or deleted.")
    ] = "ready",
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, max=WEEK, help="Seconds to wait.")] = 180.0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Wait until all of the vms are in a state.

    \b
    Examples:
      appcat vm start --no-wait a b && appcat vm wait a b
      appcat vm wait web --for stopped --timeout 3600
    """
    from appcat.cli.several import for_each
    from appcat.errors import InvalidInput
    from appcat.services.wait import Until

    if until not in list(Until):
        raise InvalidInput(f"{until!r} cannot be waited for", hint=f"one of: {', '.join(Until)}")

    def wait_for_one(appcat: Engine, name: str) -> bool:
        appcat.wait(name, Until(until), timeout)
        return True

    for_each(names, wait_for_one, "", as_json=as_json, quiet=quiet)
