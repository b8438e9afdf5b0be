"""``appcat vmpower ...``: AppCatalyst's own verbs, for the scripts that know them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from appcat.cli.lazy import group_of
from appcat.cli.options import Json, Name

if TYPE_CHECKING:
    from appcat.engine import Engine


def list_(as_json: Json = False) -> None:
    """List the power state of all vms."""
    from appcat.cli.engine import engine
    from appcat.cli.output import print_json, print_table

    found = engine().list_vms()
    if as_json:
        print_json([{"id": vm["name"], "status": vm["status"]} for vm in found])
    else:
        print_table(["ID", "STATUS"], [[vm["name"], vm["status"]] for vm in found])


def on(name: Name, as_json: Json = False) -> None:
    """Power on."""
    _do(name, "on", lambda appcat: appcat.start(name), as_json)


def off(name: Name, as_json: Json = False) -> None:
    """Cut the power."""
    _do(name, "off", lambda appcat: appcat.kill(name), as_json)


def shutdown(name: Name, as_json: Json = False) -> None:
    """Ask the guest to power off, and wait."""
    _do(name, "shutdown", lambda appcat: appcat.stop(name), as_json)


def pause(name: Name, as_json: Json = False) -> None:
    """Halt the processors."""
    _do(name, "pause", lambda appcat: appcat.pause(name), as_json)


def unpause(name: Name, as_json: Json = False) -> None:
    """Let the processors go on."""
    _do(name, "unpause", lambda appcat: appcat.unpause(name), as_json)


def suspend(name: Name, as_json: Json = False) -> None:
    """Save memory to disk and power off: not yet."""
    from appcat.cli.engine import engine
    from appcat.errors import Unavailable

    engine().show(name)
    raise Unavailable(
        "suspend is not there yet", hint=f"appcat vmpower pause {name} halts it in memory", code="not-yet"
    )


def _do(name: str, verb: str, action: Callable[[Engine], bool], as_json: bool) -> None:
    from appcat.cli.engine import engine
    from appcat.cli.output import print_json, progress, say

    with progress() as report:
        changed = action(engine(report))
    if as_json:
        print_json({"id": name, "verb": verb, "changed": changed})
    else:
        say(name)


_VERBS = {"list": "list_", **{verb: verb for verb in ("on", "off", "shutdown", "suspend", "pause", "unpause")}}

group = group_of(
    "Power, in AppCatalyst's words.", {verb: f"{__name__}:{function}" for verb, function in _VERBS.items()}
)
