"""``appcat vm network ...``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from appcat.cli.complete import complete_network
from appcat.cli.lazy import group_of
from appcat.cli.options import Json, Name

if TYPE_CHECKING:
    from appcat.model.shapes import AttachmentInfo

Network = Annotated[
    str, typer.Argument(help="The network.", show_default=False, metavar="NETWORK", autocompletion=complete_network)
]
Place = Annotated[
    str,
    typer.Argument(help="NETWORK[:IP].", show_default=False, metavar="NETWORK", autocompletion=complete_network),
]


def list_(name: Name, as_json: Json = False) -> None:
    """List the networks a vm is on, with its address and its names there."""
    from appcat.cli.engine import engine
    from appcat.cli.network_view import print_attachments
    from appcat.cli.output import print_json

    found = engine().list_attachments(name)
    if as_json:
        print_json(found)
    else:
        print_attachments(found)


def attach(name: Name, network: Place, as_json: Json = False) -> None:
    """Put a vm on a network; a running one gets another network card at once.

    Its address and MAC there stay its own until it is detached. A vm can be on four networks.

    \b
    Examples:
      appcat vm network attach web lab
      appcat vm network attach web lab:10.77.1.10
    """
    from appcat.cli.engine import engine
    from appcat.cli.output import print_json, progress, say
    from appcat.model.network import parse_joining

    joining = parse_joining(network)
    with progress() as report:
        found = engine(report).attach_network(name, joining)
    if as_json:
        print_json(found)
    else:
        say(_address_on(found, joining.network))


def detach(name: Name, network: Network, as_json: Json = False) -> None:
    """Take a vm off a network, at once. Its address there is free again.

    \b
    Examples:
      appcat vm network detach web lab
    """
    from appcat.cli.engine import engine
    from appcat.cli.output import print_json, progress, say

    with progress() as report:
        left = engine(report).detach_network(name, network)
    if as_json:
        print_json(left)
    else:
        say(network)


def _address_on(found: list[AttachmentInfo], network: str) -> str:
    """Where the vm is now, as ``--network`` would take it."""
    return next((f"{network}:{one['address']}" for one in found if one["network"] == network), network)


group = group_of(
    "The networks a vm is on, on running vms too.",
    {
        name: f"{__name__}:{function}"
        for name, function in (("list", "list_"), ("attach", "attach"), ("detach", "detach"))
    },
)
