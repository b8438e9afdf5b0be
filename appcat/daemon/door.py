"""Doors: sockets that are bound before the daemon says that it runs, and who came in through which."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import ssl
import stat
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from starlette.types import ASGIApp

from appcat.errors import AppcatError, Conflict, InvalidInput, PortInUse, from_os_error
from appcat.model.listen import Listen, bracketed
from appcat.store.files import claim_runtime_directory, unlink

BACKLOG = 512
LONGEST_SOCKET = 107  # bytes of a unix socket's path, without the zero at its end
LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
UNIX_NAMES = frozenset({"", "localhost", "appcat"})


class Kind(StrEnum):
    """How one comes in."""

    UNIX = "unix"
    TCP = "tcp"
    TLS = "tls"


@dataclass(frozen=True)
class Door:
    """A bound socket and what is behind it. ``names`` are those that a request's ``Host`` may use."""

    kind: Kind
    socket: socket.socket
    address: str
    app: ASGIApp
    names: frozenset[str]
    ssl: ssl.SSLContext | None = None

    @property
    def needs_token(self) -> bool:
        """Whether the socket alone does not say who comes in."""
        return self.kind is not Kind.UNIX


@dataclass
class Peer:
    """Who is at the other end of one connection; found in ``scope["state"]["peer"]``, so in ``request.state.peer``.

    ``who`` is for the audit: ``uid:1000`` or, once it has shown one, the token's name. ``abort`` ends the connection.
    """

    door: Door
    address: str
    local: str = ""
    uid: int | None = None
    pid: int | None = None
    token: str | None = None
    secret: str | None = field(default=None, repr=False)
    abort: Callable[[], None] = lambda: None
    connection: socket.socket | None = field(default=None, repr=False)

    def is_gone(self) -> bool:
        """Whether it has hung up: for who does not read from it at present, and so would not notice."""
        if self.connection is None:
            return False
        look = select.poll()
        try:
            look.register(self.connection, getattr(select, "POLLRDHUP", select.POLLHUP))
            return bool(look.poll(0))
        except (OSError, ValueError):  # closed
            return True

    @property
    def who(self) -> str:
        """For the audit."""
        return f"uid:{self.uid}" if self.uid is not None else f"token:{self.token}" if self.token else ""


def peer_of(door: Door, connection: socket.socket, abort: Callable[[], None]) -> Peer:
    """The one at the other end of ``connection``."""
    if door.kind is Kind.UNIX:
        uid, pid = credentials(connection)
        address = "unix" if pid is None else f"pid:{pid}"
        return Peer(door, address, uid=uid, pid=pid, abort=abort, connection=connection)
    try:
        host, port = connection.getpeername()[:2]
        local = str(connection.getsockname()[0])
    except OSError:  # gone already
        return Peer(door, "", abort=abort)
    address = f"{bracketed(host)}:{port}"
    return Peer(door, address, local=local.partition("%")[0], abort=abort, connection=connection)


def credentials(connection: socket.socket) -> tuple[int | None, int | None]:
    """User and process at the other end of a unix socket, where the system tells (Linux)."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return None, None
    pid, uid, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i")))
    return uid, pid


def may_enter(peer: Peer) -> bool:
    """Whether a unix socket's peer is this user, or root. Where the system does not tell, the file's mode has to do."""
    return peer.uid is None or peer.uid in (0, os.getuid())


@contextlib.contextmanager
def unix_door(path: Path, app: ASGIApp) -> Iterator[Door]:
    """The default door: a socket for this user alone. Call with ``daemon.lock`` held.

    One that a killed daemon left is replaced; one on which somebody listens is not: Conflict.
    """
    if len(os.fsencode(path)) > LONGEST_SOCKET:
        raise InvalidInput(f"{path} is too long for a socket", hint="set APPCAT_HOME to a shorter path")
    claim_runtime_directory(path.parent)
    _make_room(path)
    with _listener_at(path) as listener:
        mine = path.lstat()
        try:
            yield Door(Kind.UNIX, listener, f"unix://{path}", app, UNIX_NAMES)
        finally:
            with contextlib.suppress(OSError):
                if os.path.samestat(path.lstat(), mine):
                    path.unlink()


def _listener_at(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise from_os_error(error, f"listening at {path}") from error
    finally:
        os.umask(before)
    return listener


def _make_room(path: Path) -> None:
    """Remove what a dead daemon left at ``path``; raises Conflict when it is not that."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise Conflict(f"{path} is in the way: it is no socket", hint="move it away", code="socket-in-use")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            unlink(path)
            return
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ETIMEDOUT) and not isinstance(error, TimeoutError):
                raise from_os_error(error, f"looking at {path}") from error
    raise Conflict(f"another program listens at {path}", hint="see which: ss -xlp, and end it", code="socket-in-use")


@contextlib.contextmanager
def tcp_door(listen: Listen, app: ASGIApp, context: ssl.SSLContext | None, names: frozenset[str]) -> Iterator[Door]:
    """A door on an address of this host, which may have more ``names``; raises PortInUse, InvalidInput."""
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            listener.bind((listen.host, listen.port))
            listener.listen(BACKLOG)
        except OSError as error:
            raise _cannot_bind(listen, error) from error
        listener.setblocking(False)
        kind, scheme = (Kind.TLS, "https") if context else (Kind.TCP, "http")
        address = f"{scheme}://{Listen(listen.host, listener.getsockname()[1])}"
        yield Door(kind, listener, address, app, LOCAL_NAMES | {listen.host} | names, context)


def _cannot_bind(listen: Listen, error: OSError) -> AppcatError:
    if error.errno == errno.EADDRINUSE:
        return PortInUse(f"{listen} is taken", hint="choose another port")
    if error.errno == errno.EADDRNOTAVAIL:
        return InvalidInput(f"{listen.host} is not an address of this host", hint="see 'ip address'")
    if error.errno in (errno.EACCES, errno.EPERM):
        return PortInUse(
            f"{listen} may not be listened at", hint="choose a port from 1024 on", code="port-not-permitted"
        )
    return from_os_error(error, f"listening at {listen}")
