"""``tunnel``: a TCP connection into a guest, through its SSH server: no host port is taken for it."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from typing import TYPE_CHECKING

from appcat.errors import GuestError
from appcat.model.port import LOOPBACK, check_port_number
from appcat.services.context import Context
from appcat.services.execute import session

if TYPE_CHECKING:
    import paramiko

CHUNK = 1 << 15
OPEN_PATIENCE = 15.0
HANG_UP_POLL = 0.5


def tunnel(ctx: Context, name: str, port: int) -> socket.socket:
    """A connection to ``port`` of the guest's own loopback address; close it to end the tunnel.

    The end of one direction is passed on and leaves the other open. Raises what ``session`` raises, InvalidInput for a
    port that cannot be, GuestError when nobody listens there.
    """
    check_port_number(port)
    with contextlib.ExitStack() as stack:
        transport = stack.enter_context(session(ctx, name))
        channel = _open(transport, name, port)
        ours, theirs = socket.socketpair()
        held = stack.pop_all()
    _Pumps(channel, theirs, held).start()
    return ours


def _open(transport: paramiko.Transport, name: str, port: int) -> paramiko.Channel:
    import paramiko

    try:
        return transport.open_channel("direct-tcpip", (LOOPBACK, port), (LOOPBACK, 0), timeout=OPEN_PATIENCE)
    except (paramiko.SSHException, EOFError) as error:
        raise GuestError(
            f"port {port} of {name} cannot be reached: {error}",
            hint=f"does anything listen there? appcat vm exec {name} -- netstat -ltn",
            code="tunnel-failed",
        ) from error


class _Pumps:
    """Both directions of a tunnel, a thread each; the last one to end closes everything."""

    def __init__(self, channel: paramiko.Channel, side: socket.socket, held: contextlib.ExitStack) -> None:
        self._channel, self._side, self._held = channel, side, held
        self._left = threading.Semaphore(1)

    def start(self) -> None:
        """Begin; nobody has to wait for them."""
        for work in (self._out, self._in):
            threading.Thread(target=self._do, args=(work,), daemon=True).start()

    def _do(self, work: object) -> None:
        assert callable(work)
        try:
            with contextlib.suppress(OSError, EOFError):
                work()
        finally:
            if not self._left.acquire(blocking=False):
                self._channel.close()
                self._side.close()
                self._held.close()

    def _out(self) -> None:
        """From the guest to us."""
        try:
            while data := self._channel.recv(CHUNK):
                self._side.sendall(data)
            self._side.shutdown(socket.SHUT_WR)
        except OSError:  # nobody reads here any more
            self._channel.close()
            raise

    def _in(self) -> None:
        """From us to the guest."""
        try:
            while data := self._side.recv(CHUNK):
                self._channel.sendall(data)
        finally:
            self._channel.shutdown_write()
        if self._is_hung_up():  # not only the end of this direction: a guest that waits for more must not keep the rest
            self._channel.close()

    def _is_hung_up(self) -> bool:
        """Whether our side was closed altogether; looks until the guest's is."""
        look = select.poll()
        look.register(self._side, 0)
        while not self._channel.closed:
            try:
                if look.poll(HANG_UP_POLL * 1000):
                    return True
            except (OSError, ValueError):
                return True
        return False
