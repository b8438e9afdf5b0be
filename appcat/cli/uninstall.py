"""``appcat uninstall``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from appcat.cli.options import Json, Yes

if TYPE_CHECKING:
    from appcat.services.uninstall import Plan


def uninstall(
    keep_cache: Annotated[
        bool, typer.Option("--keep-cache", help="Leave the images: other homes may share them (APPCAT_CACHE).")
    ] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Remove all vms, all images and all else that appcat keeps.

    Shows first what would go, then asks. Files in appcat's directories that are not appcat's are kept and named.

    \b
    Examples:
      appcat uninstall
      appcat uninstall --yes --json
    """
    from appcat.cli.confirm import confirm
    from appcat.cli.engine import local
    from appcat.cli.output import note, print_json, progress, say
    from appcat.services import uninstall as service

    plan = service.plan(local("uninstall").context, keep_cache=keep_cache)
    if not as_json:
        _show(plan)
    if plan.parts:
        confirm("Remove all of this for good?", yes, always=True)
    with progress() as report:
        done = service.uninstall(local("uninstall", report).context, keep_cache=keep_cache)
    if as_json:
        print_json({**_describe(done), "program": service.PROGRAM})
        return
    for path in done.kept:
        note(f"kept, it is not appcat's: {path}")
    say("removed" if done.parts else "there was nothing to remove")
    say(f"To remove the program itself: {service.PROGRAM}")


def _show(plan: Plan) -> None:
    """What would go, for the one who is asked."""
    from appcat.cli.output import note
    from appcat.model.size import format_size

    for part in plan.parts:
        size = f" ({format_size(part.size)})" if part.size is not None else ""
        note(f"{part.kind:<10}  {part.what}{size}")
    for path in plan.kept:
        note(f"{'kept':<10}  {path}: not appcat's")


def _describe(plan: Plan) -> dict[str, Any]:
    from appcat.model.codec import encode

    return {"removed": [encode(part) for part in plan.parts], "kept": list(plan.kept)}
