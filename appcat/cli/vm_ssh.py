"""``appcat vm ssh`` and ``ssh-config``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from appcat.cli.complete import complete_vm
from appcat.cli.options import Command, Json, Name

if TYPE_CHECKING:
    from appcat.engine import Engine
    from appcat.model.shapes import VmInfo


def ssh(name: Name, command: Command = None) -> None:
    """Log in to a guest with ssh.

    \b
    Examples:
      appcat vm ssh web
      appcat vm ssh web -- tail -f /var/log/messages
    """
    import os

    from appcat import command as programs
    from appcat.cli.engine import engine

    argv = engine().ssh_command(name, command or ())
    os.execv(programs.find(argv[0]), argv)


def usable_vms(appcat: Engine) -> list[VmInfo]:
    """All vms but broken ones, which are named on standard error."""
    from appcat.cli.output import note
    from appcat.model.status import Status

    found = appcat.list_vms()
    for vm in found:
        if vm["status"] == Status.BROKEN:
            note(f"left out: {vm['name']}: {vm['detail']}")
    return [vm for vm in found if vm["status"] != Status.BROKEN]


def _names(appcat: Engine) -> list[str]:
    return [vm["name"] for vm in usable_vms(appcat)]


def ssh_config(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Names of vms; all when none is given.", show_default=False, autocompletion=complete_vm),
    ] = None,
    install: Annotated[
        bool, typer.Option("--install", help="Have ~/.ssh/config include all vms, those made later too.")
    ] = False,
    uninstall: Annotated[bool, typer.Option("--uninstall", help="Take that out of ~/.ssh/config again.")] = False,
    as_json: Json = False,
) -> None:
    """Make plain ssh, scp and rsync reach vms by name.

    Prints what ~/.ssh/config needs, or has it include that.

    \b
    Examples:
      appcat vm ssh-config --install && ssh web uptime
      appcat vm ssh-config web > web.conf && scp -F web.conf file web:
    """
    from appcat.cli.engine import engine, local
    from appcat.cli.output import print_json, say
    from appcat.errors import InvalidInput

    if (install or uninstall) and (names or (install and uninstall)):
        raise InvalidInput("--install and --uninstall are for all vms at once", hint="give one of them and no name")
    if install or uninstall:
        from appcat.services import ssh_config as service

        ctx = local("ssh-config --install").context
        changed = service.install(ctx) if install else service.uninstall(ctx)
        path = service.default_config()
        if as_json:
            print_json({"config": str(path), "changed": changed, "line": service.include_line(ctx)})
        else:
            done = "now includes" if install else "no longer includes"
            say(f"{path} {done} the vms of {ctx.layout.home}" if changed else f"{path} is as it should be already")
        return
    appcat = engine()
    blocks = {name: appcat.ssh_config(name) for name in names or _names(appcat)}
    if as_json:
        print_json([{"name": name, "config": block} for name, block in blocks.items()])
    else:
        say("\n".join(blocks.values()).rstrip("\n"))
