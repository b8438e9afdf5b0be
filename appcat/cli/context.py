"""``appcat context ...``: other appcats that commands can be for."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from appcat.cli.complete import complete_context
from appcat.cli.lazy import group_of
from appcat.cli.options import Json

if TYPE_CHECKING:
    from appcat.model.remote import Remote
    from appcat.store.layout import Layout

Known = Annotated[
    str, typer.Argument(help="The context.", show_default=False, metavar="NAME", autocompletion=complete_context)
]


def add(
    name: Annotated[str, typer.Argument(help="What to call it.", show_default=False)],
    url: Annotated[str, typer.Argument(help="unix:///PATH, https://HOST:PORT or ssh://USER@HOST.", show_default=False)],
    token_file: Annotated[str, typer.Option("--token-file", help="A file with its token.", metavar="FILE")] = "",
    token: Annotated[
        str, typer.Option("--token", help="Its token; - reads it from standard input, where nobody sees it.")
    ] = "",
    fingerprint: Annotated[
        str, typer.Option("--fingerprint", help="The SHA-256 of its certificate: nothing else is trusted then.")
    ] = "",
    ca_file: Annotated[
        str, typer.Option("--ca-file", help="The authorities to trust, a PEM file.", metavar="FILE")
    ] = "",
    as_json: Json = False,
) -> None:
    """Remember another appcat, behind its daemon.

    \b
    Examples:
      appcat context add build ssh://me@build.example.org
      appcat context add lab https://lab:8443 --token-file lab.token
    """
    from appcat.cli.output import print_json, say
    from appcat.model.remote import Remote
    from appcat.services import contexts

    given = sys.stdin.readline().strip() if token == "-" else token
    contexts.add(_layout(), name, Remote(url, given, token_file, fingerprint, ca_file))
    if as_json:
        print_json(_describe(name, contexts.find(_layout(), name), contexts.read(_layout()).current))
    else:
        say(name)


def use(name: Known, as_json: Json = False) -> None:
    """Have commands be for this one; local is the appcat of this computer.

    APPCAT_CONTEXT, APPCAT_HOST, --context and --host go before it.

    \b
    Examples:
      appcat context use build && appcat vm list
      appcat context use local
    """
    from appcat.cli.output import print_json, say
    from appcat.services import contexts

    contexts.use(_layout(), name)
    if as_json:
        print_json({"current": name})
    else:
        say(name)


def list_(as_json: Json = False) -> None:
    """List the contexts; a star marks the one that holds now."""
    from appcat.cli.output import print_json, print_table
    from appcat.model.remote import LOCAL
    from appcat.services import contexts

    layout = _layout()
    current, by_url = contexts.chosen(layout)
    found = {LOCAL: None, **contexts.read(layout).remotes, **({"": by_url} if by_url and not current else {})}
    if as_json:
        print_json([_describe(name, remote, current) for name, remote in found.items()])
        return
    rows = [
        ["*" if name == current else "", name or "(APPCAT_HOST)", *_cells(remote)] for name, remote in found.items()
    ]
    print_table(["", "CONTEXT", "URL", "TOKEN", "CERTIFICATE"], rows)


def show(
    name: Annotated[
        str,
        typer.Argument(help="The context.", show_default="the one that holds now", autocompletion=complete_context),
    ] = "",
    as_json: Json = False,
) -> None:
    """Show a context: where it is and how it is known. Never its token."""
    from appcat.cli.output import print_json, say
    from appcat.model.remote import LOCAL
    from appcat.services import contexts

    layout = _layout()
    current, remote = contexts.chosen(layout)
    if name:
        remote = None if name == LOCAL else contexts.find(layout, name)
    told = _describe(name or current, remote, current)
    if as_json:
        print_json(told)
        return
    for key, value in told.items():
        if key != "current" and value:
            say(f"{key.replace('_', ' '):<12} {value}")


def remove(name: Known, as_json: Json = False) -> None:
    """Forget a context."""
    from appcat.cli.output import print_json, say
    from appcat.services import contexts

    contexts.remove(_layout(), name)
    if as_json:
        print_json({"name": name, "changed": True})
    else:
        say(name)


def _layout() -> Layout:
    from appcat.settings import Settings
    from appcat.store.layout import Layout

    return Layout(Settings.load())


def _describe(name: str, remote: Remote | None, current: str) -> dict[str, Any]:
    """A context as data; of its token only where it is."""
    return {
        "name": name,
        "current": name == current,
        "url": remote.url if remote else "",
        "token": _token(remote),
        "fingerprint": remote.fingerprint if remote else "",
        "ca_file": remote.ca_file if remote else "",
    }


def _cells(remote: Remote | None) -> list[str]:
    if remote is None:
        return ["(this computer)", "", ""]
    certificate = f"sha256:{remote.fingerprint[:12]}..." if remote.fingerprint else remote.ca_file
    return [remote.url, _token(remote), certificate]


def _token(remote: Remote | None) -> str:
    return "" if remote is None else remote.token_file or ("stored" if remote.token else "")


group = group_of(
    "Other appcats, behind their daemons, that commands can be for.",
    {
        "add": f"{__name__}:add",
        "use": f"{__name__}:use",
        "list": f"{__name__}:list_",
        "show": f"{__name__}:show",
        "remove": f"{__name__}:remove",
    },
)
