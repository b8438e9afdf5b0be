"""``appcat keeper ...``: the helper that watches over running vms."""

from __future__ import annotations

import typer

app = typer.Typer(help="The helper that watches over running vms; it starts by itself.", no_args_is_help=True)


@app.command()
def status(
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Say whether a keeper is running."""
    from appcat.app import App
    from appcat.cli.output import print_json, say
    from appcat.services import keeping

    running = keeping.is_running(App.load().context)
    if as_json:
        print_json({"running": running})
    else:
        say("running" if running else "not running")


@app.command()
def install() -> None:
    """Start the keeper, and with it the --autostart vms, whenever this user's session manager starts."""
    from appcat.app import App
    from appcat.cli.output import say
    from appcat.services import keeping

    path = keeping.install(App.load().context)
    say(f"installed {path}")
    say("To have it start at boot rather than at login: loginctl enable-linger")


@app.command()
def uninstall() -> None:
    """Undo install; running vms are left alone."""
    from appcat.app import App
    from appcat.cli.output import say
    from appcat.services import keeping

    say("uninstalled" if keeping.uninstall(App.load().context) else "was not installed")
