"""``appcat operation ...``: long commands while they work, and what came of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from appcat.cli.complete import complete_operation, complete_running_operation
from appcat.cli.lazy import group_of
from appcat.cli.options import WEEK, Json
from appcat.model.operation import OperationState

if TYPE_CHECKING:
    from appcat.errors import AppcatError
    from appcat.model.shapes import OperationInfo

Id = Annotated[
    str, typer.Argument(help="The operation's id.", show_default=False, autocompletion=complete_operation, metavar="ID")
]
RunningId = Annotated[
    str,
    typer.Argument(
        help="The operation's id.", show_default=False, autocompletion=complete_running_operation, metavar="ID"
    ),
]
STYLES = {"running": "green", "failed": "red", "lost": "red", "cancelled": "yellow"}
ROOM_FOR_NAME = 20


def list_(
    state: Annotated[
        OperationState | None, typer.Option("--state", help="Only those in this state.", show_default="all")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Ids only.")] = False,
    as_json: Json = False,
) -> None:
    """List operations: what long commands do, or did in the last days.

    One that is lost was killed before it ended.

    \b
    Example:
      appcat operation list --state running
    """
    from appcat.cli.engine import engine
    from appcat.cli.output import note, print_json, print_table, say

    found = engine().list_operations(state)
    if as_json:
        print_json(found)
    elif quiet:
        for one in found:
            say(one["id"])
    elif found:
        columns = ["ID", "STATE", "VERB", "SECONDS", "VMS"]
        print_table(columns, [_row(one) for one in found], STYLES, right=["SECONDS"])
    else:
        note("no operations" + (f" are {state}" if state else " yet"))


def show(id: Id, as_json: Json = False) -> None:  # noqa: A002
    """Show all about one operation: how far it is, and what came of it."""
    from appcat.cli.engine import engine
    from appcat.cli.output import print_json, say

    seen = engine().show_operation(id)
    if as_json:
        print_json(seen)
        return
    for key, value in _facts(seen):
        if value:
            say(f"{key:<12} {value}")


def cancel(id: RunningId, as_json: Json = False) -> None:  # noqa: A002
    """Ask an operation to stop.

    It does so within about half a second, and leaves what an interrupt leaves: nothing half done, but a vm that is
    starting goes on.

    \b
    Example:
      appcat operation cancel $(appcat operation list -q --state running)
    """
    from appcat.cli.engine import engine
    from appcat.cli.output import print_json, say

    seen = engine().cancel(id)
    if as_json:
        print_json(seen)
    else:
        say(id)


def wait(
    id: RunningId,  # noqa: A002
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, max=WEEK, help="Seconds to wait.")] = 600.0,
    as_json: Json = False,
) -> None:
    """Wait until an operation is over.

    The exit status is the one that its command had.
    """
    from appcat.cli.engine import engine
    from appcat.cli.output import print_json, say

    seen = engine().wait_operation(id, timeout)
    if as_json:
        print_json(seen)
    error = _error_of(seen)
    if error is not None:
        raise error
    if not as_json:
        say(f"{id} {seen['state']}")


def _error_of(seen: OperationInfo) -> AppcatError | None:
    from appcat.errors import AppcatError, from_parts

    if failure := seen["error"]:
        return from_parts(failure)
    if seen["state"] != OperationState.LOST:
        return None
    return AppcatError(
        f"operation {seen['id']} ({seen['verb']}) was lost: its process was killed",
        hint="see what it left: appcat vm list",
        code="operation-lost",
    )


def _row(one: OperationInfo) -> list[str]:
    from appcat.cli.output import shortened

    vms = one["vms"]
    first = shortened(vms[0], ROOM_FOR_NAME) if vms else ""
    more = f" +{len(vms) - 1}" if len(vms) > 1 else ""
    return [one["id"], one["state"], one["verb"], _seconds(one), first + more]


def _seconds(one: OperationInfo) -> str:
    """How long it took, or takes by now; nothing where nobody knows."""
    from datetime import UTC, datetime

    if one["state"] == OperationState.LOST:
        return ""
    end = datetime.fromisoformat(one["ended"]) if one["ended"] else datetime.now(UTC)
    return f"{(end - datetime.fromisoformat(one['created'])).total_seconds():.1f}"


def _facts(seen: OperationInfo) -> Iterator[tuple[str, str]]:
    is_over = seen["state"] != OperationState.RUNNING
    yield "id", seen["id"]
    yield "state", seen["state"] + (", to be cancelled" if seen["cancel_requested"] and not is_over else "")
    yield "verb", seen["verb"]
    yield "vms", ", ".join(seen["vms"])
    if error := seen["error"]:
        yield "error", f"{error['message']} ({error['code']})"
        yield "hint", error["hint"]
    progress = f" ({seen['done']} of {seen['total']})" if seen["total"] > 1 else ""
    yield "step", f"{seen['step']}{progress}" if seen["step"] else ""
    for key, value in (seen["result"] or {}).items():
        yield key, ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    yield "created", seen["created"]
    yield "ended", seen["ended"]
    yield "process", f"{seen['pid']} ({seen['origin']})"


group = group_of(
    "Long commands while they work, and what came of them.",
    {"list": f"{__name__}:list_", **{verb: f"{__name__}:{verb}" for verb in ("show", "cancel", "wait")}},
)
