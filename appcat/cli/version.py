"""``appcat version``."""

from __future__ import annotations

from appcat.cli.options import Json


def version(as_json: Json = False) -> None:
    """Print the version of appcat."""
    from appcat import __version__

    print(f'{{"version": "{__version__}"}}' if as_json else f"appcat {__version__}")
