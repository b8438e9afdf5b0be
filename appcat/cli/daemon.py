"""``appcat daemon ...``: the process that serves programs, here and elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from appcat.cli.lazy import group_of
from appcat.cli.options import Json

if TYPE_CHECKING:
    from appcat.services.daemon import Doors, State

Listen = Annotated[
    list[str] | None,
    typer.Option("--listen", help="Also listen at [ADDRESS]:PORT, for those who have a token. May be repeated."),
]
Tls = Annotated[bool, typer.Option("--tls", help="Encrypt what is listened at, with a certificate of its own.")]
TlsCert = Annotated[str | None, typer.Option("--tls-cert", metavar="FILE", help="Encrypt with this certificate (PEM).")]
TlsKey = Annotated[str | None, typer.Option("--tls-key", metavar="FILE", help="The key to it (PEM).")]


def run(listen: Listen = None, tls: Tls = False, tls_cert: TlsCert = None, tls_key: TlsKey = None) -> None:
    """Be the daemon, in the foreground, until Ctrl-C or SIGTERM.

    \b
    Examples:
      appcat daemon run
    """
    import os
    import sys

    from appcat.services.host_service import DAEMON

    doors = _doors(listen, tls, tls_cert, tls_key)
    doors.checked()
    os.execv(sys.executable, DAEMON.command(*doors.options()))


def start(
    listen: Listen = None, tls: Tls = False, tls_cert: TlsCert = None, tls_key: TlsKey = None, as_json: Json = False
) -> None:
    """Start the daemon in the background, and wait until it answers.

    It listens at a unix socket for this user alone, and where else it is told to: at an address that others can reach
    only with --tls, and there only for those who have a token (appcat daemon token add).

    \b
    Examples:
      appcat daemon start
      appcat daemon start --listen :8080
      appcat daemon start --listen 0.0.0.0:8443 --tls
    """
    from appcat.cli.engine import local
    from appcat.services import daemon

    _show(daemon.start(local("the daemon").context, _doors(listen, tls, tls_cert, tls_key)), as_json)


def stop(as_json: Json = False) -> None:
    """End the daemon; running vms are left alone, and get a keeper."""
    from appcat.cli.engine import local
    from appcat.cli.output import print_json, progress, say
    from appcat.services import daemon

    with progress(as_json) as report:
        changed = daemon.stop(local("the daemon", report).context)
    if as_json:
        print_json({"changed": changed})
    else:
        say("stopped" if changed else "was not running")


def restart(
    listen: Listen = None, tls: Tls = False, tls_cert: TlsCert = None, tls_key: TlsKey = None, as_json: Json = False
) -> None:
    """End the daemon and start it again, with the options it had unless others are given."""
    from appcat.cli.engine import local
    from appcat.cli.output import progress
    from appcat.services import daemon

    doors = _doors(listen, tls, tls_cert, tls_key)
    with progress(as_json) as report:
        state = daemon.restart(local("the daemon", report).context, doors)
    _show(state, as_json)


def status(as_json: Json = False) -> None:
    """Say whether the daemon runs, since when, and where it answers."""
    from appcat.cli.engine import local
    from appcat.services import daemon

    _show(daemon.look(local("the daemon").context), as_json)


def logs(
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the daemon ends.")] = False,
    tail: Annotated[
        int | None, typer.Option("--tail", "-n", min=0, help="Only the last lines, so many.", show_default="all")
    ] = None,
    as_json: Json = False,
) -> None:
    """Print what the daemon said.

    \b
    Examples:
      appcat daemon logs --tail 20
      appcat daemon logs -f
    """
    from appcat.cli.engine import local
    from appcat.cli.vm_logs import print_log
    from appcat.services import daemon

    try:
        print_log(daemon.read_log(local("the daemon").context, tail=tail, follow=follow), as_json)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except BrokenPipeError:
        raise typer.Exit(141) from None


def install(
    listen: Listen = None, tls: Tls = False, tls_cert: TlsCert = None, tls_key: TlsKey = None, as_json: Json = False
) -> None:
    """Start the daemon now and after a host reboot.

    And with it the --autostart vms, whenever this user's session manager starts. It takes the place of the keeper's
    service, if there is one: the daemon is a keeper too.
    """
    from appcat.cli.engine import local
    from appcat.cli.service import tell_installed
    from appcat.services import daemon

    path = daemon.install(local("the daemon").context, _doors(listen, tls, tls_cert, tls_key))
    tell_installed(path, as_json)


def uninstall(as_json: Json = False) -> None:
    """Undo install; running vms are left alone."""
    from appcat.cli.engine import local
    from appcat.cli.service import tell_uninstalled
    from appcat.services import daemon

    local("the daemon")
    changed = daemon.uninstall()
    tell_uninstalled(changed, as_json)


def dial() -> None:
    """Join standard input and output to the daemon's socket, and start it if there is none: for ssh."""
    from appcat.app import App
    from appcat.cli.joined import join
    from appcat.services import daemon

    with daemon.connect(App.load().context) as door:
        join(door)


def _doors(listen: list[str] | None, tls: bool, tls_cert: str | None, tls_key: str | None) -> Doors:
    """As asked for; files by their full paths, since the daemon works elsewhere."""
    from pathlib import Path

    from appcat.services.daemon import Doors

    certificate, key = (path and str(Path(path).expanduser().absolute()) for path in (tls_cert, tls_key))
    return Doors(tuple(listen or ()), tls, certificate, key)


def _show(state: State | None, as_json: bool) -> None:
    from appcat.cli.output import note, print_json, say

    if as_json:
        print_json(_describe(state))
        return
    if state is None:
        say("not running")
        return
    say(f"running   process {state.pid}, appcat {state.version}, since {state.since}" if state.since else "starting")
    for address in state.addresses:
        say(f"address   {address}")
    if state.token_file:
        say(f"token     {state.token_file}")
    if state.certificate:
        say(f"tls-cert  {state.certificate}")
    if state.fingerprint:
        say(f"SHA-256   {state.fingerprint}")
    if state.since and not state.is_current:
        note("It is of another version than this command. Restart it: appcat daemon restart")


def _describe(state: State | None) -> dict[str, Any]:
    if state is None:
        return {"running": False}
    return {
        "running": True,
        "pid": state.pid,
        "version": state.version,
        "current": state.is_current,
        "since": state.since,
        "addresses": list(state.addresses),
        "service": state.service,
        "token_file": state.token_file,
        "certificate": state.certificate,
        "fingerprint": state.fingerprint,
    }


_verbs = ("start", "stop", "restart", "status", "logs", "run", "install", "uninstall", "dial")
group = group_of(
    "The server for programs; this command line needs none.",
    {**{verb: f"{__name__}:{verb}" for verb in _verbs}, "token": "appcat.cli.daemon_token"},
)
