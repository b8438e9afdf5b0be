"""``appcat guest ...``: AppCatalyst's own verbs, for the scripts that know them."""

from __future__ import annotations

from appcat.cli.lazy import group_of
from appcat.cli.options import Json, Name


def getip(name: Name, as_json: Json = False) -> None:
    """Print the address at which this host reaches a guest.

    Once its SSH server answers; an error until then.
    """
    from appcat.cli.engine import local
    from appcat.cli.output import print_json, say
    from appcat.services.execute import reach

    target = reach(local("an address that reaches a guest").context, name)
    if as_json:
        print_json({"id": name, "address": target.address, "ssh": target.port})
    else:
        say(target.address)


group = group_of("What a guest says of itself, in AppCatalyst's words.", {"getip": f"{__name__}:getip"})
