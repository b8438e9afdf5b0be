"""``appcat vm delete``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from appcat.cli.options import Json, Names, Quiet, Yes

if TYPE_CHECKING:
    from appcat.engine import Engine


def delete(
    names: Names,
    force: Annotated[bool, typer.Option("--force", "-f", help="End running vms; remove broken ones.")] = False,
    yes: Yes = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Delete vms with all their data. Asks first on a terminal.

    \b
    Examples:
      appcat vm delete web
      appcat vm delete --force --yes a b c
    """
    from appcat.cli.confirm import confirm
    from appcat.cli.engine import engine
    from appcat.cli.several import for_each

    there = engine().names()
    known = [name for name in names if name in there]
    if known:
        confirm(f"Delete {', '.join(known)} with all data?", yes)

    def delete_one(appcat: Engine, name: str) -> bool:
        appcat.delete(name, force=force)
        return True

    for_each(names, delete_one, "", as_json=as_json, quiet=quiet, order=_children_first)


def _children_first(appcat: Engine, names: list[str]) -> list[list[str]]:
    from appcat.services.delete import children_first

    return children_first(names, appcat.list_vms()) if len(names) > 1 else [names]
