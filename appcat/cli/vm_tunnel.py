"""``appcat vm tunnel`` and ``vm port forward``: TCP connections into a guest, from wherever this runs."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import select
import socket
import sys
import threading
from typing import TYPE_CHECKING, Annotated

import typer

from appcat.cli.options import Name

if TYPE_CHECKING:
    from appcat.engine import Engine
    from appcat.model.port import PortForward

CHUNK = 1 << 16
BACKLOG = 64

Ways = Annotated[
    list[str],
    typer.Argument(metavar="[[ADDRESS:]LOCAL:]GUEST...", help="A port here and one in there.", show_default=False),
]


def tunnel(
    name: Name, port: Annotated[int, typer.Argument(help="A TCP port of the guest.", show_default=False)]
) -> None:
    """Join standard input and output to a TCP port of a guest, as ssh's ProxyCommand wants it."""
    from appcat.cli.engine import engine
    from appcat.cli.joined import join

    try:
        with engine().tunnel(name, port) as connection:
            join(connection)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def forward(name: Name, ways: Ways) -> None:
    """Have ports of this computer lead into a guest until Ctrl-C.

    Into a vm of another computer too: the connection to its daemon is what leads there. To publish a port on the
    computer that runs the vm: vm port add.

    \b
    Examples:
      appcat vm port forward web 8080:80
      appcat --context build vm port forward db 5432:5432 127.0.0.2:9000:9000
    """
    from appcat.cli.engine import engine
    from appcat.cli.output import say
    from appcat.errors import InvalidInput
    from appcat.model.port import Protocol, parse_forward

    wanted = [_at_loopback(parse_forward(text)) for text in ways]
    if any(way.protocol is not Protocol.TCP for way in wanted):
        raise InvalidInput("only TCP can be forwarded from here", hint="appcat vm port add forwards UDP too")
    appcat = engine()
    appcat.show(name)
    with contextlib.ExitStack() as stack:
        listeners = {stack.enter_context(_listen(way)): way for way in wanted}
        for way in wanted:
            say(f"{way.address}:{way.host} leads to port {way.guest} of {name}")
        sys.stdout.flush()
        try:
            while True:
                for listener in select.select(list(listeners), [], [], None)[0]:
                    accepted, _ = listener.accept()
                    arguments = (appcat, name, listeners[listener], accepted)
                    threading.Thread(target=_serve, args=arguments, daemon=True).start()
        except KeyboardInterrupt:
            raise typer.Exit(130) from None


def _at_loopback(way: PortForward) -> PortForward:
    """A port alone is the same here and there."""
    from appcat.model.port import LOOPBACK

    return dataclasses.replace(way, address=LOOPBACK) if way.is_own else way


def _listen(way: PortForward) -> socket.socket:
    from appcat.errors import PortInUse, from_os_error

    try:
        return socket.create_server((way.address, way.host), backlog=BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(f"port {way.host} of {way.address} is taken", hint="give another") from error
        raise from_os_error(error, f"listening on {way.address}:{way.host}") from error


def _serve(appcat: Engine, name: str, way: PortForward, accepted: socket.socket) -> None:
    """One connection; that it cannot be made is told, and does not end the others."""
    from appcat.cli.output import print_error
    from appcat.errors import AppcatError

    with accepted:
        try:
            with appcat.tunnel(name, way.guest) as connection:
                back = threading.Thread(target=_pass, args=(connection, accepted), daemon=True)
                back.start()
                _pass(accepted, connection)
                back.join()
        except AppcatError as error:
            print_error(error, as_json=False)


def _pass(source: socket.socket, target: socket.socket) -> None:
    """One direction, and its end."""
    with contextlib.suppress(OSError):
        while data := source.recv(CHUNK):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
