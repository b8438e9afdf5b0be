"""``appcat inventory``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from appcat.cli.complete import complete_vm

if TYPE_CHECKING:
    from appcat.engine import Engine
    from appcat.guest.ssh import Way
    from appcat.model.shapes import VmInfo


def inventory(
    as_script: Annotated[bool, typer.Option("--list", help="As an inventory script answers.")] = False,
    host: Annotated[
        str,
        typer.Option(
            "--host", help="The variables of one vm, as such a script.", metavar="NAME", autocompletion=complete_vm
        ),
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Errors as JSON too.")] = False,
) -> None:
    """Print all vms as an inventory of Ansible.

    Groups are made from networks, templates, labels and status: network_lab, template_pico, label_role_front,
    status_running; what could not be in a group's name becomes "_". Ansible also takes a script, which is never out of
    date: an executable file with the two lines #!/bin/sh and exec appcat inventory "$@".

    \b
    Examples:
      appcat inventory > hosts.json
      ansible -i hosts.json status_running -m raw -a uptime
    """
    from appcat.cli.engine import engine
    from appcat.cli.output import print_json
    from appcat.services.inventory import listed, variables, whole

    del as_json  # what leaves the program knows
    appcat = engine()
    if host:
        print_json(variables(appcat.ssh_way(host)))
        return
    print_json((listed if as_script else whole)(*_all(appcat)))


def _all(appcat: Engine) -> tuple[list[VmInfo], dict[str, Way]]:
    """Every vm that is not broken, and the way to each; one that goes meanwhile is left out."""
    from appcat.cli.vm_ssh import usable_vms
    from appcat.errors import NotFound

    vms, ways = [], {}
    for vm in usable_vms(appcat):
        try:
            ways[vm["name"]] = appcat.ssh_way(vm["name"])
        except NotFound:
            continue
        vms.append(vm)
    return vms, ways
