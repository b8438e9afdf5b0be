"""SSH into a guest: commands through paramiko, sessions through the ``ssh`` program.

The guest's host key is known from the moment the vm was created, so a connection to anything else is refused; nobody is
asked, nothing is trusted at first sight.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from appcat.errors import Broken, DeadlineExceeded, GuestError

if TYPE_CHECKING:
    import paramiko

CHUNK = 32768
RETRY_EVERY = 0.05
BANNER_PATIENCE = 15.0


@dataclass(frozen=True)
class Target:
    """Where a guest's SSH server is reached, and as whom."""

    name: str
    address: str
    port: int
    login: str


@dataclass(frozen=True)
class Streams:
    """What a command's standard streams are joined to; no ``stdin`` means an empty one."""

    stdin: BinaryIO | None
    stdout: BinaryIO
    stderr: BinaryIO


def command_line(target: Target, key: Path, known_hosts: Path, command: Sequence[str] = ()) -> list[str]:
    """``ssh`` with all it needs to log in to ``target`` and nothing of the user's own configuration."""
    options = {
        "IdentityFile": quote_option(key),
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": quote_option(known_hosts),
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "HostKeyAlias": target.name,
        "LogLevel": "ERROR",
    }
    args = ["ssh", "-F", "none", "-p", str(target.port)]
    for option, value in options.items():
        args += ["-o", f"{option}={value}"]
    return [*args, f"{target.login}@{target.address}", *([shlex.join(command)] if command else [])]


def quote_option(path: Path) -> str:
    """A path as ssh_config(5) takes it: in quotes, ``%`` doubled."""
    return '"' + str(path).replace("%", "%%") + '"'


@contextlib.contextmanager
def connect(target: Target, key: Path, known_hosts: Path, timeout: float) -> Iterator[paramiko.Transport]:
    """An authenticated connection; tries again for ``timeout`` seconds, since a guest's server may still be starting.

    Raises GuestError when the server is another one than the vm's, or refuses the key; DeadlineExceeded when there is
    none in time; Broken when a key file cannot be read.
    """
    import paramiko

    expected, private = _host_key(known_hosts), _private_key(key)
    deadline = time.monotonic() + timeout
    while True:
        try:
            transport = _open(target, expected, private, deadline)
            break
        except paramiko.AuthenticationException as error:
            raise GuestError(
                f"{target.name} refuses this home's SSH key", hint="was ~/.ssh/authorized_keys changed in the guest?"
            ) from error
        except (OSError, EOFError, paramiko.SSHException) as error:
            if "host key" in str(error).lower():
                raise GuestError(f"port {target.port} answers with another host key than {target.name}'s") from error
            if time.monotonic() >= deadline:
                raise DeadlineExceeded(
                    f"the SSH server of {target.name} did not answer within {timeout:g} s",
                    hint=f"see its console log: appcat vm show {target.name}",
                ) from error
            time.sleep(RETRY_EVERY)
    try:
        yield transport
    finally:
        transport.close()


def _open(target: Target, expected: paramiko.PKey, private: paramiko.PKey, deadline: float) -> paramiko.Transport:
    import paramiko

    connection = socket.create_connection(
        (target.address, target.port), timeout=max(deadline - time.monotonic(), RETRY_EVERY)
    )
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    transport = paramiko.Transport(connection)
    transport.banner_timeout = BANNER_PATIENCE
    try:
        transport.connect(hostkey=expected, username=target.login, pkey=private)
    except BaseException:
        transport.close()
        raise
    return transport


def run(transport: paramiko.Transport, command: Sequence[str], streams: Streams, deadline: float | None) -> int:
    """Run ``command`` on a connection and return its exit status (128 + n when signal n ended it).

    Its output is passed on as it comes. After ``deadline`` (monotonic seconds) it is ended and DeadlineExceeded raised.
    """
    import paramiko

    try:
        channel = transport.open_session()
        channel.exec_command(shlex.join(command))
        return _join(channel, streams, deadline)
    except (paramiko.SSHException, EOFError) as error:
        raise GuestError(f"the SSH connection was lost: {error}", hint="see 'appcat vm list'") from error


def _join(channel: paramiko.Channel, streams: Streams, deadline: float | None) -> int:
    ended = threading.Event()
    pumps = [
        threading.Thread(target=_pump_out, args=(channel.recv, streams.stdout), daemon=True),
        threading.Thread(target=_pump_out, args=(channel.recv_stderr, streams.stderr), daemon=True),
    ]
    feeder = threading.Thread(target=_feed, args=(channel, streams.stdin, ended), daemon=True)
    for thread in (*pumps, feeder):
        thread.start()
    try:
        for thread in pumps:
            thread.join(None if deadline is None else max(deadline - time.monotonic(), 0))
            if thread.is_alive():
                _signal(channel, "KILL")
                raise DeadlineExceeded("the command did not end in the time it was given", hint="raise --timeout")
        return _exit_status(channel, deadline)
    except KeyboardInterrupt:
        _signal(channel, "INT")
        raise
    finally:
        ended.set()
        channel.close()


def _exit_status(channel: paramiko.Channel, deadline: float | None) -> int:
    if not channel.status_event.wait(None if deadline is None else max(deadline - time.monotonic(), 0.1)):
        _signal(channel, "KILL")
        raise DeadlineExceeded("the command did not end in the time it was given", hint="raise --timeout")
    status = channel.exit_status
    if status >= 0:
        return status
    raise GuestError("the command ended without an exit status: it was killed, or the connection was lost")


def _pump_out(receive: Callable[[int], bytes], target: BinaryIO) -> None:
    with contextlib.suppress(OSError, ValueError):
        while chunk := receive(CHUNK):
            target.write(chunk)
            target.flush()


def _feed(channel: paramiko.Channel, source: BinaryIO | None, ended: threading.Event) -> None:
    """Pass standard input on until it or the command ends; never block on a terminal nobody types at."""
    with contextlib.suppress(OSError, ValueError, EOFError):
        while source is not None and not ended.is_set():
            readable, _, _ = select.select([source], [], [], 0.2)
            if not readable:
                continue
            chunk = os.read(source.fileno(), CHUNK)
            if not chunk:
                break
            channel.sendall(chunk)
        channel.shutdown_write()


def _signal(channel: paramiko.Channel, name: str) -> None:
    """Send a signal to the command (RFC 4254, 6.9), for which paramiko has no call of its own."""
    from paramiko.common import cMSG_CHANNEL_REQUEST
    from paramiko.message import Message

    message = Message()
    message.add_byte(cMSG_CHANNEL_REQUEST)
    message.add_int(channel.remote_chanid)
    message.add_string("signal")
    message.add_boolean(False)
    message.add_string(name)
    with contextlib.suppress(Exception):
        channel.get_transport()._send_user_message(message)  # type: ignore[attr-defined]


def _private_key(path: Path) -> paramiko.PKey:
    import paramiko

    try:
        return paramiko.Ed25519Key.from_private_key_file(str(path))
    except (OSError, paramiko.SSHException) as error:
        raise Broken(f"the SSH key {path} cannot be read: {error}") from error


def _host_key(known_hosts: Path) -> paramiko.PKey:
    import base64

    import paramiko

    try:
        kind, encoded = known_hosts.read_text(encoding="ascii").split()[1:3]
        return paramiko.PKey.from_type_string(kind, base64.b64decode(encoded))
    except (OSError, ValueError, paramiko.SSHException) as error:
        raise Broken(f"{known_hosts} cannot be read: {error}") from error
