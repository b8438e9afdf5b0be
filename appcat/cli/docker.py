"""``appcat docker ...``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from appcat.cli.complete import complete_joining, complete_template, complete_vm
from appcat.cli.lazy import group_of
from appcat.cli.options import Json, Quiet, Yes

Hosts = Annotated[
    list[str],
    typer.Argument(help="Names of Docker hosts.", show_default=False, metavar="NAMES", autocompletion=complete_vm),
]
LOCAL = "a docker context"


def create(
    names: Annotated[list[str], typer.Argument(help="Names for the hosts and their contexts.", show_default=False)],
    cold: Annotated[bool, typer.Option("--cold", help="Boot them: not from the warm template's memory.")] = False,
    new_id: Annotated[
        bool, typer.Option("--new-id", help="Restart each engine with an id of its own; takes seconds.")
    ] = False,
    template: Annotated[
        str,
        typer.Option("--template", help="This one, or one that is based on it.", autocompletion=complete_template),
    ] = "docker",
    cpus: Annotated[int | None, typer.Option("--cpus", help="Processors.", show_default="the template's")] = None,
    memory: Annotated[
        str | None, typer.Option("--memory", help="Such as 2G.", show_default="the template's", metavar="SIZE")
    ] = None,
    network: Annotated[
        list[str] | None,
        typer.Option(
            "--network",
            help="Be on this network: NAME[:IP]. May be repeated; 'none' for none.",
            show_default="none",
            autocompletion=complete_joining,
        ),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Make Docker hosts, and a docker context for each.

    They go on where the warm template is at this moment, engine and all, and have a certificate of their own. The first
    time the template is built (minutes) and booted once.

    \b
    Examples:
      appcat docker create a b c
      docker --context a run --rm IMAGE
    """
    from appcat.cli.engine import local
    from appcat.cli.output import print_error, print_json, print_table, progress
    from appcat.cli.request import joinings
    from appcat.model.size import parse_memory
    from appcat.services.create import CreateRequest
    from appcat.services.docker import docker_create

    like = CreateRequest(
        name=names[0],
        template=template,
        cpus=cpus,
        memory=None if memory is None else parse_memory(memory),
        networks=joinings(network),
    )
    with progress(quiet) as report:
        outcomes = docker_create(local(LOCAL, report).context, names, like, cold=cold, new_id=new_id)
    hosts = [outcome.host for outcome in outcomes if outcome.host]
    failures = [outcome.error for outcome in outcomes if outcome.error]
    if as_json:
        print_json([asdict(host) for host in hosts])
    elif hosts and not quiet:
        rows = [[host.name, host.url, host.context, f"{host.seconds:.2f}"] for host in hosts]
        print_table(["NAME", "ENGINE", "CONTEXT", "SECONDS"], rows, right=["SECONDS"])
    for error in failures:
        print_error(error, as_json=as_json)
    if failures:
        sys.exit(failures[0].exit_code)


def list_(
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Names only.")] = False, as_json: Json = False
) -> None:
    """List the vms that are Docker hosts.

    \b
    Example:
      appcat docker list
    """
    from appcat.cli.engine import local
    from appcat.cli.output import print_json, print_table, say
    from appcat.services.docker import docker_list

    hosts = docker_list(local(LOCAL).context)
    if as_json:
        print_json([asdict(host) for host in hosts])
    elif quiet:
        for host in hosts:
            say(host.name)
    else:
        rows = [[host.name, host.status, host.url or "-", host.context or "-"] for host in hosts]
        print_table(["NAME", "STATUS", "ENGINE", "CONTEXT"], rows)


def env(
    name: Annotated[str, typer.Argument(help="The Docker host.", show_default=False, autocompletion=complete_vm)],
    as_json: Json = False,
) -> None:
    """Print what makes the docker CLI, and other clients, speak to a Docker host from this shell on.

    \b
    Example:
      eval "$(appcat docker env a)"
    """
    import shlex

    from appcat.cli.engine import local
    from appcat.cli.output import print_json
    from appcat.services.docker import docker_env

    variables = docker_env(local(LOCAL).context, name)
    if as_json:
        print_json(variables)
        return
    for key, value in variables.items():
        print(f"export {key}={shlex.quote(value)}")
    print(f'# for this shell: eval "$(appcat docker env {name})"')


def delete(names: Hosts, yes: Yes = False, quiet: Quiet = False, as_json: Json = False) -> None:
    """Delete Docker hosts, running or not, with all data and their contexts. Asks first on a terminal.

    \b
    Example:
      appcat docker delete a b c
    """
    from appcat.cli.confirm import confirm
    from appcat.cli.engine import local
    from appcat.cli.several import for_each
    from appcat.engine import Engine
    from appcat.services.docker import docker_delete, find_host

    app = local(LOCAL)
    for name in names:
        find_host(app.context, name)
    confirm(f"Delete {', '.join(names)} with all data?", yes)

    def delete_one(_: Engine, name: str) -> bool:
        docker_delete(app.context, name)
        return True

    for_each(names, delete_one, "", as_json=as_json, quiet=quiet)


_COMMANDS = {"create": "create", "list": "list_", "env": "env", "delete": "delete"}
group = group_of(
    "Docker hosts: vms with an engine, and a docker context for each.",
    {name: f"{__name__}:{function}" for name, function in _COMMANDS.items()},
)
