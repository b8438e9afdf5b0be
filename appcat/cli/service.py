"""What is said of a service that the host's service manager starts: the keeper's or the daemon's."""

from __future__ import annotations

from pathlib import Path

from appcat.cli.output import print_json, say


def tell_installed(path: Path, as_json: bool) -> None:
    """Where its file is."""
    if as_json:
        print_json({"installed": str(path)})
        return
    say(f"installed {path}")
    say("To have it start at boot rather than at login: loginctl enable-linger")


def tell_uninstalled(changed: bool, as_json: bool) -> None:
    """Whether there was one."""
    if as_json:
        print_json({"changed": changed})
    else:
        say("uninstalled" if changed else "was not installed")
