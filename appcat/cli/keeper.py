"""``appcat keeper ...``: the helper that watches over running vms."""

from __future__ import annotations

from appcat.cli.lazy import group_of
from appcat.cli.options import Json


def status(as_json: Json = False) -> None:
    """Say whether a keeper is running."""
    from appcat.cli.engine import local
    from appcat.cli.output import print_json, say
    from appcat.services import keeping

    running = keeping.is_running(local("the keeper").context)
    if as_json:
        print_json({"running": running})
    else:
        say("running" if running else "not running")


def install(as_json: Json = False) -> None:
    """Start the keeper after a host reboot.

    And with it the --autostart vms, whenever this user's session manager starts. It takes the place of the daemon's
    service, if there is one.
    """
    from appcat.cli.engine import local
    from appcat.cli.service import tell_installed
    from appcat.services import keeping

    path = keeping.install(local("the keeper").context)
    tell_installed(path, as_json)


def uninstall(as_json: Json = False) -> None:
    """Undo install; running vms are left alone."""
    from appcat.cli.engine import local
    from appcat.cli.service import tell_uninstalled
    from appcat.services import keeping

    local("the keeper")
    changed = keeping.uninstall()
    tell_uninstalled(changed, as_json)


group = group_of(
    "The helper that watches over running vms; it starts by itself.",
    {verb: f"{__name__}:{verb}" for verb in ("status", "install", "uninstall")},
)
