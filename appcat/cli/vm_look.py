"""``appcat vm list`` and ``show``."""

from __future__ import annotations

from typing import Annotated

import typer

from appcat.cli.options import Filter, Json, Name


def list_(
    filters: Filter = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Names only.")] = False,
    as_json: Json = False,
) -> None:
    """List vms.

    \b
    Examples:
      appcat vm list --filter status=running --filter label=role=web
      appcat vm stop $(appcat vm list -q --filter label=ci)
    """
    from appcat.cli.engine import engine
    from appcat.cli.output import print_json, say
    from appcat.cli.vm_view import print_list

    appcat = engine()
    found = appcat.list_vms(filters or [])
    if as_json:
        print_json(found)
    elif quiet:
        for vm in found:
            say(vm["name"])
    else:
        print_list(found, filtered=len(appcat.names()) if filters and not found else 0)


def show(name: Name, as_json: Json = False) -> None:
    """Show all about one vm.

    Its state, what it has, why it last stopped, where its logs are.
    """
    from appcat.cli.engine import engine
    from appcat.cli.output import print_json
    from appcat.cli.vm_view import print_details

    details = engine().show(name)
    if as_json:
        print_json(details)
    else:
        print_details(details)
