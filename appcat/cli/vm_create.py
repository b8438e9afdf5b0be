"""``appcat vm create`` and ``run``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from appcat.cli.options import (
    Autostart,
    Command,
    Cpus,
    Disks,
    Json,
    Label,
    Memory,
    Name,
    Networks,
    Publish,
    Quiet,
    Restart,
    StartWait,
    Template,
)

if TYPE_CHECKING:
    from appcat.engine import Engine


def create(
    name: Name,
    template: Template = None,
    cpus: Cpus = None,
    memory: Memory = None,
    disk: Disks = None,
    publish: Publish = None,
    network: Networks = None,
    label: Label = None,
    restart: Restart = None,
    autostart: Autostart = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Create a vm and leave it powered off.

    \b
    Examples:
      appcat vm create web
      appcat vm create db --memory 1G --disk 10G --publish 5432:5432
      appcat vm create node1 --network lab:10.77.1.11
    """
    from appcat.cli.engine import engine
    from appcat.cli.output import print_json, progress, say
    from appcat.cli.request import create_request

    request = create_request(name, template, cpus, memory, disk, publish, network, label, restart, autostart)
    with progress(quiet) as report:
        made = engine(report).create(request)
    if as_json:
        print_json(made)
    elif not quiet:
        say(name)


def run(
    name: Name,
    command: Command = None,
    template: Template = None,
    cpus: Cpus = None,
    memory: Memory = None,
    disk: Disks = None,
    publish: Publish = None,
    network: Networks = None,
    label: Label = None,
    restart: Restart = None,
    autostart: Autostart = False,
    instant: Annotated[
        bool, typer.Option("--instant", help="Begin in the memory of the template, booted once before.")
    ] = False,
    remove: Annotated[bool, typer.Option("--rm", help="Delete the vm when the command has ended.")] = False,
    timeout: StartWait = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Create and start a vm, and run a command in it.

    Waits for its guest first. The vm goes on running afterwards, unless --rm is given; the exit status is the
    command's.

    \b
    Examples:
      appcat vm run web --publish 8080:80
      appcat vm run --rm probe -- uname -a
      appcat vm run job --instant
      appcat vm run node2 --network lab --network default
    """
    from appcat.cli.engine import engine
    from appcat.cli.output import print_json, progress, say
    from appcat.cli.request import create_request
    from appcat.errors import InvalidInput

    if remove and not command:
        raise InvalidInput("--rm needs a command whose end it can wait for", hint="appcat vm run --rm NAME -- COMMAND")
    request = create_request(name, template, cpus, memory, disk, publish, network, label, restart, autostart)
    with progress(quiet) as report:
        appcat = engine(report)
        made = appcat.run(request, ready_within=timeout, remove=remove, instant=instant)
    if command:
        raise typer.Exit(_run_command(appcat, name, command, remove))
    if as_json:
        print_json(made)
    elif not quiet:
        say(name)


def _run_command(appcat: Engine, name: str, command: list[str], remove: bool) -> int:
    from appcat.cli.execute import run_command

    try:
        return run_command(appcat, name, command)
    finally:
        if remove:
            appcat.delete(name, force=True)
