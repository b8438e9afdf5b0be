"""SSH into a guest: connections through paramiko, sessions through the ``ssh`` program.

The guest's host key is known from the moment the vm was created, so a connection to anything else is refused; nobody is
asked, nothing is trusted at first sight.
"""

from __future__ import annotations

import contextlib
import shlex
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from appcat.errors import Broken, DeadlineExceeded, GuestError
from appcat.guest.patience import check_interrupted

if TYPE_CHECKING:
    import paramiko

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
class Way:
    """How ssh reaches one guest: who it is, and the files that ssh reads; ``proxy`` as ``options`` has it."""

    target: Target
    key: Path
    known_hosts: Path
    proxy: str = ""


def options(target: Target, key: Path, known_hosts: Path, proxy: str = "") -> dict[str, str]:
    """What ssh_config(5) must say so that the right key is shown to the right guest and nothing is asked.

    ``proxy`` is a command that leads there, where no port of this computer does.
    """
    return {
        **({"ProxyCommand": proxy.replace("%", "%%")} if proxy else {}),
        "IdentityFile": quote_option(key),
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": quote_option(known_hosts),
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "HostKeyAlias": target.name,
        "LogLevel": "ERROR",
    }


def command_line(
    target: Target, key: Path, known_hosts: Path, command: Sequence[str] = (), *, proxy: str = ""
) -> list[str]:
    """``ssh`` with all it needs to log in to ``target`` and nothing of the user's own configuration."""
    args = ["ssh", "-F", "none", "-p", str(target.port)]
    for option, value in options(target, key, known_hosts, proxy).items():
        args += ["-o", f"{option}={value}"]
    return [*args, f"{target.login}@{target.address}", *([shlex.join(command)] if command else [])]


def config_block(target: Target, key: Path, known_hosts: Path, *, proxy: str = "") -> str:
    """The same for ssh_config(5): a ``Host`` block that makes ``ssh NAME`` work."""
    where = {"HostName": target.address, "Port": str(target.port), "User": target.login}
    lines = [f"  {option} {value}" for option, value in {**where, **options(target, key, known_hosts, proxy)}.items()]
    return "\n".join([f"Host {target.name}", *lines]) + "\n"


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
                raise GuestError(
                    f"port {target.port} answers with another host key than {target.name}'s",
                    hint=f"somebody else may listen there: ss -ltnp 'sport = {target.port}'",
                ) from error
            if time.monotonic() >= deadline:
                raise DeadlineExceeded(
                    f"the SSH server of {target.name} did not answer within {timeout:g} s",
                    hint=f"see its console log: appcat vm show {target.name}",
                ) from error
            check_interrupted()
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
    left = min(BANNER_PATIENCE, max(deadline - time.monotonic(), RETRY_EVERY))
    transport.banner_timeout = transport.auth_timeout = left
    try:
        transport.connect(hostkey=expected, username=target.login, pkey=private)
    except BaseException:
        transport.close()
        raise
    return transport


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
