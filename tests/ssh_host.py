"""A computer that one can log in to: an SSH server of the test's own on 127.0.0.1, and an ``ssh`` that trusts it.

The client is the real ``ssh`` program. The server is paramiko's, which needs neither root nor an installed sshd, and
starts commands as sshd does: with the login shell, one session after the other on one connection.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import paramiko

CHUNK = 1 << 15


@dataclass
class SshHost:
    """Where it listens, the directory with an ``ssh`` to put first in PATH, and how many connections were opened."""

    port: int
    programs: Path
    connections: int = 0
    commands: list[str] = field(default_factory=list)


@contextlib.contextmanager
def ssh_host(directory: Path, environ: Mapping[str, str]) -> Iterator[SshHost]:
    """A server whose commands run with ``environ``; keys and client configuration go into ``directory``."""
    host_key, user_key = paramiko.ECDSAKey.generate(), paramiko.ECDSAKey.generate()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        host = SshHost(port, _client(directory, port, host_key, user_key))
        transports: list[paramiko.Transport] = []
        serve = _Accepting(listener, host, host_key, user_key, dict(environ), transports)
        threading.Thread(target=serve, daemon=True).start()
        try:
            yield host
        finally:
            # The client's master would linger: its control socket is in appcat's own directory.
            listener.close()
            for transport in transports:
                transport.close()


def _client(directory: Path, port: int, host_key: paramiko.PKey, user_key: paramiko.PKey) -> Path:
    """An ``ssh`` that has the key, and knows the server and nobody else."""
    key, known, config = directory / "key", directory / "known_hosts", directory / "ssh_config"
    user_key.write_private_key_file(str(key))
    known.write_text(f"[127.0.0.1]:{port} {host_key.get_name()} {host_key.get_base64()}\n")
    config.write_text(
        f"IdentityFile {key}\nIdentitiesOnly yes\nUserKnownHostsFile {known}\nGlobalKnownHostsFile /dev/null\n"
        "StrictHostKeyChecking yes\nBatchMode yes\n"
    )
    program = directory / "bin" / "ssh"
    program.parent.mkdir()
    real = shutil.which("ssh")
    assert real
    program.write_text(f'#!/bin/sh\nexec {real} -F {shlex.quote(str(config))} "$@"\n')
    program.chmod(0o755)
    return program.parent


@dataclass
class _Accepting:
    """Takes connections until the listener is closed."""

    listener: socket.socket
    host: SshHost
    host_key: paramiko.PKey
    user_key: paramiko.PKey
    environ: dict[str, str]
    transports: list[paramiko.Transport]

    def __call__(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.host.connections += 1
                transport = paramiko.Transport(connection)
                transport.add_server_key(self.host_key)
                with contextlib.suppress(paramiko.SSHException, EOFError):
                    transport.start_server(threading.Event(), _Login(self.host, self.user_key, self.environ))
                self.transports.append(transport)


class _Login(paramiko.ServerInterface):
    """Lets the one key in, and runs what it asks for."""

    def __init__(self, host: SshHost, key: paramiko.PKey, environ: dict[str, str]) -> None:
        self._host, self._key, self._environ = host, key, environ

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        same = key == self._key
        return paramiko.common.AUTH_SUCCESSFUL if same else paramiko.common.AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.common.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self._host.commands.append(command.decode())
        threading.Thread(target=_run, args=(channel, command.decode(), self._environ), daemon=True).start()
        return True


def _run(channel: paramiko.Channel, command: str, environ: dict[str, str]) -> None:
    pipe = subprocess.PIPE
    process = subprocess.Popen(["/bin/sh", "-c", command], env=environ, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0)
    assert process.stdin and process.stdout and process.stderr
    feeder = threading.Thread(target=_feed, args=(channel, process.stdin), daemon=True)
    passing = [
        threading.Thread(target=_pass, args=(process.stdout.fileno(), channel.sendall), daemon=True),
        threading.Thread(target=_pass, args=(process.stderr.fileno(), channel.sendall_stderr), daemon=True),
    ]
    for thread in (feeder, *passing):
        thread.start()
    for thread in passing:
        thread.join()
    with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
        channel.send_exit_status(process.wait())
        channel.close()
    with contextlib.suppress(OSError):
        process.stdin.close()
    process.stdout.close()
    process.stderr.close()


def _feed(channel: paramiko.Channel, target: object) -> None:
    with contextlib.suppress(OSError, ValueError):
        while data := channel.recv(CHUNK):
            target.write(data)  # type: ignore[attr-defined]
    with contextlib.suppress(OSError, ValueError):
        target.close()  # type: ignore[attr-defined]


def _pass(source: int, send: Callable[[bytes], None]) -> None:
    with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
        while data := os.read(source, CHUNK):
            send(data)
