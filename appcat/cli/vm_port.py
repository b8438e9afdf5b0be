"""``appcat vm port ...``."""

from __future__ import annotations

from typing import Annotated

import typer

from appcat.cli.lazy import group_of
from appcat.cli.options import Json, Name

Forward = Annotated[str, typer.Argument(help="[ADDRESS:]HOST:GUEST[/udp].", show_default=False)]


def list_(name: Name, as_json: Json = False) -> None:
    """List the host ports that lead into a guest."""
    from appcat.cli.engine import engine
    from appcat.cli.output import print_json, print_table

    ports = engine().list_ports(name)
    if as_json:
        print_json(ports)
        return
    rows = [[f"{port['address']}:{port['host']}", str(port["guest"]), port["protocol"]] for port in ports]
    print_table(["HOST", "GUEST", "PROTOCOL"], rows)


def add(name: Name, forward: Forward, as_json: Json = False) -> None:
    """Forward a host port into a guest; a running one has it at once.

    \b
    Examples:
      appcat vm port add web 8080:80
      appcat vm port add dns 127.0.0.2:5353:53/udp
    """
    from appcat.cli.engine import engine
    from appcat.cli.output import print_json, say
    from appcat.model.codec import encode
    from appcat.model.port import parse_forward

    parsed = parse_forward(forward)
    changed = engine().add_port(name, parsed)
    if as_json:
        print_json({"name": name, "port": encode(parsed), "changed": changed})
    else:
        say(str(parsed) if changed else f"{parsed} is forwarded already")


def remove(name: Name, forward: Forward, as_json: Json = False) -> None:
    """Take a forward away, at once."""
    from appcat.cli.engine import engine
    from appcat.cli.output import print_json, say
    from appcat.model.codec import encode
    from appcat.model.port import parse_forward

    parsed = parse_forward(forward)
    engine().remove_port(name, parsed)
    if as_json:
        print_json({"name": name, "port": encode(parsed), "changed": True})
    else:
        say(str(parsed))


group = group_of(
    "Host ports that lead into a guest, on running vms too.",
    {
        "list": f"{__name__}:list_",
        "add": f"{__name__}:add",
        "remove": f"{__name__}:remove",
        "forward": "appcat.cli.vm_tunnel:forward",
    },
)
