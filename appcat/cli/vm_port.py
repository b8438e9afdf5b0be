"""``appcat vm port ...``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from appcat.cli.lazy import group_of
from appcat.cli.options import Json, Name

if TYPE_CHECKING:
    from appcat.model.port import PortForward
    from appcat.model.shapes import PortInfo

Forward = Annotated[str, typer.Argument(help="PORT or [ADDRESS:]HOST:GUEST[/udp].", show_default=False)]


def list_(name: Name, as_json: Json = False) -> None:
    """List where on the host the ports of a guest are reached."""
    from appcat.cli.engine import engine
    from appcat.cli.output import print_json, print_table

    ports = engine().list_ports(name)
    if as_json:
        print_json(ports)
        return
    rows = [[f"{port['address']}:{port['host']}", str(port["guest"]), port["protocol"]] for port in ports]
    print_table(["HOST", "GUEST", "PROTOCOL"], rows)
    _advise(ports)


def add(name: Name, forward: Forward, as_json: Json = False) -> None:
    """Forward a host port into a guest; a running one has it at once.

    A port alone is published by its number, on the vm's own address, where ports of other vms are not in its way. A low
    number that this user may not listen on is at that number + 20000.

    \b
    Examples:
      appcat vm port add web 80
      appcat vm port add web 8080:80
      appcat vm port add dns 127.0.0.2:5353:53/udp
    """
    from appcat.cli.engine import engine
    from appcat.cli.output import print_json, say
    from appcat.model.port import parse_forward

    parsed = parse_forward(forward)
    appcat = engine()
    changed = appcat.add_port(name, parsed)
    places = [port for port in appcat.list_ports(name) if _leads(port, parsed)]
    if as_json:
        print_json({"name": name, "port": _told(parsed), "changed": changed, "places": places})
        return
    say(str(parsed) if changed else f"{parsed} is forwarded already")
    if parsed.is_own:
        for port in places:
            say(f"{port['address']}:{port['host']} -> {port['guest']}/{port['protocol']}")
        _advise(places)


def remove(name: Name, forward: Forward, as_json: Json = False) -> None:
    """Take a forward away, at once."""
    from appcat.cli.engine import engine
    from appcat.cli.output import print_json, say
    from appcat.model.port import parse_forward

    parsed = parse_forward(forward)
    engine().remove_port(name, parsed)
    if as_json:
        print_json({"name": name, "port": _told(parsed), "changed": True})
    else:
        say(str(parsed))


def _leads(port: PortInfo, forward: PortForward) -> bool:
    """Whether a place is one of those that the forward is at."""
    if forward.is_own:
        return port.get("own", False) and (port["guest"], port["protocol"]) == (forward.guest, forward.protocol)
    return (port["address"], port["host"], port["protocol"]) == (forward.address, forward.host, forward.protocol)


def _told(forward: PortForward) -> dict[str, Any]:
    """As the API takes it: one published by its number says no place."""
    from appcat.model.codec import encode

    told: dict[str, Any] = encode(forward)
    return {"guest": told["guest"], "protocol": told["protocol"]} if forward.is_own else told


def _advise(ports: Sequence[PortInfo]) -> None:
    """Below a list: why a port is not at its number, and what to do."""
    from appcat.cli.output import say

    for port in ports:
        if advice := port.get("advice"):
            say(f"{port['guest']}/{port['protocol']}: {advice}")


group = group_of(
    "Host ports that lead into a guest, on running vms too.",
    {
        "list": f"{__name__}:list_",
        "add": f"{__name__}:add",
        "remove": f"{__name__}:remove",
        "forward": "appcat.cli.vm_tunnel:forward",
    },
)
