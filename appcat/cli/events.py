"""``appcat events``: what happened in this home, and what happens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from appcat.cli.complete import complete_event_filter
from appcat.cli.options import Json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from appcat.engine import Engine
    from appcat.model.event import Event
    from appcat.model.shapes import EventInfo

INDENT = 8


def events(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on, as things happen.")] = False,
    since: Annotated[
        int | None, typer.Option("--since", min=0, help="Only those after the one with this id.", show_default="all")
    ] = None,
    tail: Annotated[
        int | None, typer.Option("--tail", "-n", min=0, help="Only the last ones, so many.", show_default="all")
    ] = None,
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            help="vm=NAME or kind=KIND, or patterns such as kind=vm.*; may be repeated.",
            autocompletion=complete_event_filter,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Print what happened to vms, templates and settings, whoever did it.

    Ids grow by one. Of very many events the oldest are forgotten. With --json, one object per line.

    \b
    Examples:
      appcat events --tail 20
      appcat events --follow --filter vm=web,kind=vm.started,kind=vm.stopped
    """
    import sys

    from appcat.cli.engine import engine
    from appcat.cli.terminal import unbuffered
    from appcat.errors import InvalidInput
    from appcat.guest.remote import write_all
    from appcat.services.events import is_wanted, parse_event_filters

    if since is not None and tail is not None:
        raise InvalidInput("events are chosen by --since or by --tail", hint="give one of them")
    wanted = parse_event_filters(filters or [])
    text = _as_json if as_json else _as_line
    try:
        with unbuffered(sys.stdout) as out:
            for event in _chosen(engine(), since, tail, follow):
                if is_wanted(_event(event), wanted):
                    write_all(out, f"{text(event)}\n".encode())
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except BrokenPipeError:
        raise typer.Exit(141) from None


def _event(info: EventInfo) -> Event:
    from appcat.model.event import Event

    return Event(info["id"], info["time"], info["kind"], info["vm"], info["uuid"], info["detail"])


def _chosen(appcat: Engine, since: int | None, tail: int | None, follow: bool) -> Iterator[EventInfo]:
    after = since or 0
    if tail is not None:
        shown = appcat.last_events(max(tail, 1))
        yield from shown[len(shown) - tail :] if tail else ()
        after = shown[-1]["id"] if shown else 0
    if follow or tail is None:
        yield from _after(appcat, after, follow)


def _after(appcat: Engine, after: int, follow: bool) -> Iterator[EventInfo]:
    """Those that follow an id; where some are gone that is said, and it goes on with those that are kept."""
    from appcat.cli.output import note
    from appcat.errors import Conflict

    while True:
        try:
            for event in appcat.follow_events(after) if follow else _kept(appcat, after):
                after = event["id"]
                yield event
            return
        except Conflict as lost:
            if lost.code != "events-lost" or not after:
                raise
            note(lost.message)
            after = 0


def _kept(appcat: Engine, after: int) -> Iterator[EventInfo]:
    while batch := appcat.list_events(after):
        yield from batch
        after = batch[-1]["id"]


def _as_json(event: EventInfo) -> str:
    import json

    return json.dumps(event, ensure_ascii=False)


def _as_line(event: EventInfo) -> str:
    """A line for people; on a terminal, what does not fit goes on below."""
    import sys

    from appcat.cli.output import fitted

    moment = event["time"][:19].replace("T", " ")
    hidden = {"origin", "vms"} if event["vm"] else {"origin"}
    shown = {key: value for key, value in event["detail"].items() if key not in hidden and value not in (None, "", [])}
    detail = " ".join(f"{key}={_value(value)}" for key, value in shown.items())
    line = f"{event['id']:>6}  {moment}  {event['kind']:<17}  {event['vm']}  {detail}".rstrip()
    return fitted("".join(c if c.isprintable() else "?" for c in line), sys.stdout, INDENT)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return ",".join(f"{key}={item}" for key, item in value.items())
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
