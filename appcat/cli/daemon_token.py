"""``appcat daemon token ...``: who may come in by TCP."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from appcat.cli.lazy import group_of
from appcat.cli.options import Json

if TYPE_CHECKING:
    from appcat.services.tokens import Token

TokenName = Annotated[str, typer.Argument(metavar="NAME", help="The token's name.", show_default=False)]


def add(
    name: TokenName,
    expires: Annotated[
        str | None,
        typer.Option("--expires", metavar="SPAN", help="Until when, such as 12h or 30d.", show_default="never"),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Write the secret there, readable by you alone.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a token and print its secret, which cannot be shown again.

    \b
    Examples:
      appcat daemon token add laptop --expires 30d
      appcat daemon token add ci --output ci.token
    """
    from appcat.cli.engine import local
    from appcat.cli.output import note, print_json, say
    from appcat.model.span import parse_span
    from appcat.services import tokens

    span = None if expires is None else parse_span(expires)
    if output is not None:
        target = output.expanduser().absolute()
        tokens.add_to_file(local("the daemon").context, name, target, span)
        print_json({"name": name, "file": str(target)}) if as_json else say(str(target))
        return
    secret = tokens.add(local("the daemon").context, name, span)
    if as_json:
        print_json({"name": name, "secret": secret})
        return
    say(secret)
    note("Keep it: only its hash is kept here.")


def list_tokens(as_json: Json = False) -> None:
    """List all tokens, without their secrets."""
    from appcat.cli.engine import local
    from appcat.cli.output import print_json, print_table
    from appcat.services import tokens
    from appcat.services.context import now

    known = tokens.tokens(local("the daemon").context)
    if as_json:
        print_json([_describe(token, now()) for token in known])
        return
    rows = [[token.name, token.created, _ending(token, now())] for token in known]
    print_table(["NAME", "CREATED", "EXPIRES"], rows)


def _describe(token: Token, at: str) -> dict[str, str | bool | None]:
    return {
        "name": token.name,
        "created": token.created,
        "expires": token.expires,
        "expired": token.is_expired(at),
    }


def _ending(token: Token, at: str) -> str:
    return f"{token.expires} (expired)" if token.is_expired(at) else token.expires or "never"


def remove(name: TokenName, as_json: Json = False) -> None:
    """Forget a token: the daemon refuses it at once, and ends what is open with it."""
    from appcat.cli.engine import local
    from appcat.cli.output import print_json, say
    from appcat.services import tokens

    tokens.remove(local("the daemon").context, name)
    print_json({"removed": name}) if as_json else say(name)


group = group_of(
    "Tokens: who may come in by TCP.",
    {"add": f"{__name__}:add", "list": f"{__name__}:list_tokens", "remove": f"{__name__}:remove"},
)
