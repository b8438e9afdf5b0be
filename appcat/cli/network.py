"""``appcat network ...``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from appcat.cli.complete import complete_network
from appcat.cli.lazy import group_of
from appcat.cli.options import Json, Label, Quiet

if TYPE_CHECKING:
    from appcat.engine import Engine

Known = Annotated[
    str, typer.Argument(help="The network.", show_default=False, metavar="NAME", autocompletion=complete_network)
]
KnownOnes = Annotated[
    list[str],
    typer.Argument(help="Names of networks.", show_default=False, metavar="NAMES", autocompletion=complete_network),
]


def create(
    name: Annotated[str, typer.Argument(help="What to call it.", show_default=False)],
    subnet: Annotated[
        str | None,
        typer.Option(
            "--subnet", help="Its addresses, such as 10.77.1.0/24.", show_default="a free part of 10.77.0.0/16"
        ),
    ] = None,
    no_internet: Annotated[
        bool, typer.Option("--no-internet", help="No way out for vms that are on such networks alone.")
    ] = False,
    twin: Annotated[
        str,
        typer.Option(
            "--twin",
            help="Repeat the subnet of this network, for forks that keep their addresses.",
            metavar="NETWORK",
            autocompletion=complete_network,
        ),
    ] = "",
    label: Label = None,
    as_json: Json = False,
) -> None:
    """Make a private network.

    Vms on it reach each other on every port, by NAME and by NAME.NETWORK.appcat; nobody else reaches them there.

    \b
    Examples:
      appcat network create lab
      appcat network create lab --subnet 10.77.1.0/24 --no-internet
      appcat network create lab2 --twin lab
    """
    from appcat.cli.engine import engine
    from appcat.cli.output import print_json, say
    from appcat.cli.request import parse_labels
    from appcat.model.network import parse_subnet
    from appcat.services.networks import NetworkRequest

    request = NetworkRequest(
        name=name,
        subnet=None if subnet is None else parse_subnet(subnet),
        internet=not no_internet,
        twin=twin,
        labels=parse_labels(label or []),
    )
    made = engine().create_network(request)
    if as_json:
        print_json(made)
    else:
        say(name)


def list_(
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Names only.")] = False, as_json: Json = False
) -> None:
    """List networks, and the vms on them."""
    from appcat.cli.engine import engine
    from appcat.cli.network_view import print_list
    from appcat.cli.output import print_json, say

    found = engine().list_networks()
    if as_json:
        print_json(found)
    elif quiet:
        for network in found:
            say(network["name"])
    else:
        print_list(found)


def show(name: Known, as_json: Json = False) -> None:
    """Show all about one network: who is on it, under which address and names, and whether frames flow."""
    from appcat.cli.engine import engine
    from appcat.cli.network_view import print_details
    from appcat.cli.output import print_json

    details = engine().show_network(name)
    if as_json:
        print_json(details)
    else:
        print_details(details)


def delete(names: KnownOnes, quiet: Quiet = False, as_json: Json = False) -> None:
    """Delete networks that no vm is on.

    \b
    Examples:
      appcat network delete lab
    """
    from appcat.cli.several import for_each

    def delete_one(appcat: Engine, name: str) -> bool:
        appcat.delete_network(name)
        return True

    for_each(names, delete_one, "", as_json=as_json, quiet=quiet)


group = group_of(
    "Private networks between vms.",
    {
        name: f"{__name__}:{function}"
        for name, function in (("create", "create"), ("list", "list_"), ("show", "show"), ("delete", "delete"))
    },
)
