"""Ways to a daemon. Each dials a connected stream socket on which HTTP is spoken in the clear: what protects the bytes
(file permissions, TLS, SSH) is behind that socket.
"""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from appcat.errors import AppcatError, InvalidInput, Unavailable, from_os_error
from appcat.model.remote import Address, Remote, parse_url

CONNECT_PATIENCE = 15.0
START_HINT = "start one there: appcat daemon start"


class Dialer(Protocol):
    """One way to one daemon."""

    @property
    def url(self) -> str:
        """The daemon's URL, for messages."""

    @property
    def host(self) -> str:
        """What the ``Host`` header says."""

    def dial(self, timeout: float) -> socket.socket:
        """A connected socket, blocking without a time limit; raises Unavailable, InvalidInput."""

    def lost(self) -> str:
        """What is known, beyond that it was lost, of why a connection that was dialled gave no answer."""


def dialer(remote: Remote, own: Path) -> Dialer:
    """The way to ``remote``; raises InvalidInput. ``own`` is the socket of this home's daemon, among its sockets."""
    address = parse_url(remote.url)
    if address.scheme == "unix":
        return UnixDialer(remote.url, Path(address.path) if address.path else own)
    if address.scheme == "ssh":
        from appcat.client.ssh import SshDialer

        return SshDialer(remote.url, address, own.parent)
    if address.scheme == "http":
        return TcpDialer(remote.url, address)
    from appcat.client.tls import TlsDialer

    return TlsDialer(remote.url, address, remote.fingerprint, remote.ca_file)


@dataclass(frozen=True)
class UnixDialer:
    """A socket file: whoever may open it is who the daemon thinks they are."""

    url: str
    path: Path
    host: str = "localhost"

    def dial(self, timeout: float) -> socket.socket:
        """Connect; a daemon with many others to serve is given ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.settimeout(timeout)
                connection.connect(str(self.path))
                connection.settimeout(None)
                return connection
            except BlockingIOError as error:  # the queue of those who wait to be accepted is full
                connection.close()
                if time.monotonic() >= deadline:
                    raise no_answer(self.url, timeout) from error
                time.sleep(0.02)
            except OSError as error:
                connection.close()
                raise self._refused(error) from error

    def _refused(self, error: OSError) -> AppcatError:
        if isinstance(error, FileNotFoundError | ConnectionRefusedError):
            return Unavailable(f"no daemon listens at {self.path}", hint="appcat daemon start", code="no-daemon")
        if "too long" in str(error):
            return InvalidInput(f"{self.path} is too long for a socket's path", hint="at most 107 bytes")
        return from_os_error(error, f"connecting to {self.path}")

    def lost(self) -> str:
        """Nothing."""
        return ""


@dataclass(frozen=True)
class TcpDialer:
    """Plain TCP, to this computer alone (``model.remote.parse_url`` sees to that)."""

    url: str
    address: Address

    @property
    def host(self) -> str:
        """As in the URL."""
        return self.address.authority

    def dial(self, timeout: float) -> socket.socket:
        """Connect within ``timeout`` seconds."""
        return connect(self.url, self.address, timeout)

    def lost(self) -> str:
        """Nothing."""
        return ""


def connect(url: str, address: Address, timeout: float) -> socket.socket:
    """A TCP connection; raises Unavailable."""
    try:
        connection = socket.create_connection((address.host, address.port), timeout)
        connection.settimeout(None)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    except TimeoutError as error:
        raise no_answer(url, timeout) from error
    except ConnectionRefusedError as error:
        raise Unavailable(f"no daemon listens at {url}", hint=START_HINT, code="no-daemon") from error
    except OSError as error:
        raise Unavailable(
            f"{url} cannot be reached: {error.strerror or error}", hint="check the address", code="unreachable"
        ) from error
    return connection


def no_answer(url: str, timeout: float) -> Unavailable:
    """Nobody answered in time."""
    return Unavailable(f"{url} did not answer within {timeout:g} s", hint=START_HINT, code="unreachable")
