"""``appcat vm clone`` and ``flatten``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from appcat.cli.complete import complete_joining, complete_vm
from appcat.cli.options import Json, Names, Quiet

if TYPE_CHECKING:
    from appcat.model.shapes import CloneInfo
    from appcat.model.vm import CloneKind

Source = Annotated[str, typer.Argument(help="The vm to clone.", show_default=False, autocompletion=complete_vm)]
CloneNames = Annotated[list[str], typer.Argument(help="Names for the clones.", show_default=False)]


def clone(
    source: Source,
    names: CloneNames,
    instant: Annotated[
        bool, typer.Option("--instant", help="From its running memory too; the default if it runs.")
    ] = False,
    linked: Annotated[
        bool, typer.Option("--linked", help="Disks that stand on its own; the default if it is stopped.")
    ] = False,
    full: Annotated[bool, typer.Option("--full", help="Copies of its disks.")] = False,
    count: Annotated[
        int | None, typer.Option("--count", help="So many clones: NAME-1, NAME-2 ...", show_default=False)
    ] = None,
    fork: Annotated[
        bool, typer.Option("--fork", help="Instant clones that keep the inner name, addresses and keys.")
    ] = False,
    network: Annotated[
        list[str] | None,
        typer.Option(
            "--network",
            help="Be on this network instead of the source's: NAME[:IP]. May be repeated; 'none' for none.",
            show_default="the source's",
            autocompletion=complete_joining,
        ),
    ] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Ask source and clones who they are, and compare.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Clone a vm.

    An instant clone goes on where its source is at this moment, processes and all, as a vm of its own: another name,
    machine-id, MAC address, SSH host key, other random numbers. The source stands still for milliseconds.

    Clones are on the networks of their source, each at an address of its own. An instant clone has as many network
    cards as its source: name as many networks. A fork keeps its address on a twin of the source's network.

    \b
    Examples:
      appcat vm clone web web2
      appcat vm clone web test --count 10 --verify
      appcat vm clone web archive --full
      appcat vm clone web trial --fork --network lab2
    """
    from appcat.cli.engine import engine
    from appcat.cli.output import print_error, print_json, progress
    from appcat.cli.request import joinings
    from appcat.errors import from_parts
    from appcat.services.clone import CloneRequest, numbered
    from appcat.services.verify import check_kind

    chosen = _kind(instant, linked, full)
    if verify:
        check_kind(chosen)
    wanted = tuple(names) if count is None else numbered(_only(names), count)
    request = CloneRequest(source, wanted, chosen, fork, networks=joinings(network))
    with progress(quiet) as report:
        done = engine(report).clone(request, verify=verify)
    if as_json:
        print_json(done)
    elif not quiet:
        _tell(source, done)
    failures = [from_parts(failure) for failure in done["failed"]]
    for error in failures:
        print_error(error, as_json=as_json)
    if failures:
        sys.exit(failures[0].exit_code)


def flatten(names: Names, quiet: Quiet = False, as_json: Json = False) -> None:
    """Make vms independent of what they were cloned from.

    Their disks take in what they share with others; works while they run.

    \b
    Example:
      appcat vm flatten web2
    """
    from appcat.cli.several import for_each

    for_each(
        names, lambda appcat, name: appcat.flatten(name), "stands on nothing already", as_json=as_json, quiet=quiet
    )


def _kind(instant: bool, linked: bool, full: bool) -> CloneKind | None:
    from appcat.errors import InvalidInput
    from appcat.model.vm import CloneKind

    chosen = {CloneKind.INSTANT: instant, CloneKind.LINKED: linked, CloneKind.FULL: full}
    kinds = [kind for kind, wanted in chosen.items() if wanted]
    if len(kinds) > 1:
        raise InvalidInput(
            f"a clone is either {kinds[0]} or {kinds[1]}", hint="give one of --full, --linked, --instant"
        )
    return kinds[0] if kinds else None


def _only(names: list[str]) -> str:
    from appcat.errors import InvalidInput

    if len(names) == 1:
        return names[0]
    raise InvalidInput("--count makes names from one name", hint="give one name, or leave --count out")


def _tell(source: str, done: CloneInfo) -> None:
    from appcat.cli.output import print_table, say
    from appcat.model.size import format_size
    from appcat.model.vm import CloneKind

    if done["clones"]:
        rows = [
            [made["name"], done["kind"], made.get("address") or str(made["ssh_port"]), f"{made['seconds']:.2f}"]
            for made in done["clones"]
        ]
        print_table(["NAME", "CLONE", "SSH", "SECONDS"], rows, right=["SECONDS"])
    if done["kind"] == CloneKind.INSTANT:
        base = f"base: {format_size(done['base']['memory'])}, ready in {done['base']['seconds']:.2f} s"
        say(f"{source} stood still for {done['stun'] * 1000:.0f} ms; {base}")
    if verified := done.get("verified"):
        say(f"verified: {len(verified)} vms, each who it should be")
