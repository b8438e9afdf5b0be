"""An SSH server in this process, on the other end of a socket pair, which answers only what it is told to."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import paramiko

GROUP = 4711


class Guest(paramiko.ServerInterface):
    """Answers all requests but those named in ``mute``: ``open``, ``pty``, ``exec``, ``kill``.

    A command says its group and "started", and runs until it is killed.
    """

    def __init__(self, mute: str = "") -> None:
        self.mute = mute
        self.killed: list[str] = []
        self.gone = threading.Event()
        self._running: list[paramiko.Channel] = []

    def stall(self, mute: str) -> None:
        """From now on be silent as if made with ``mute``."""
        self.mute = mute

    def _reach(self, request: str) -> None:
        """Say nothing any more when it is this request that finds the guest stalled: nor to any after it."""
        if request == self.mute:
            self.gone.wait()

    def get_allowed_auths(self, username: str) -> str:
        return "none"

    def check_auth_none(self, username: str) -> int:
        return paramiko.common.AUTH_SUCCESSFUL

    def check_channel_request(self, kind: str, chanid: int) -> int:
        self._reach("open")
        return paramiko.common.OPEN_SUCCEEDED

    def check_channel_pty_request(self, channel: paramiko.Channel, *_size: object) -> bool:
        self._reach("pty")
        return True

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self._reach("exec")
        if command.startswith((b"kill -INT", b"kill -KILL")):
            self._reach("kill")
            self.killed.append(command.decode())
            threading.Thread(target=self.end, args=(0, channel), daemon=True).start()
        else:
            self._running.append(channel)
            threading.Thread(target=self._begin, args=(channel,), daemon=True).start()
        return True

    def _begin(self, channel: paramiko.Channel) -> None:
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            channel.sendall_stderr(f"{GROUP}\n".encode())
            channel.sendall(b"started\n")

    def end(self, status: int, *more: paramiko.Channel) -> None:
        """The end of every command that runs, and of ``more``."""
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            while self._running:
                ended = self._running.pop()
                ended.send_exit_status(status)
                ended.close()
            for channel in more:
                channel.send_exit_status(0)
                channel.close()


@contextlib.contextmanager
def connected(guest: Guest) -> Iterator[paramiko.Transport]:
    """An authenticated connection to ``guest``."""
    ours, theirs = socket.socketpair()
    server, client = paramiko.Transport(theirs), paramiko.Transport(ours)
    server.add_server_key(paramiko.ECDSAKey.generate())
    try:
        server.start_server(threading.Event(), guest)
        client.start_client(timeout=10)
        client.auth_none("root")
        yield client
    finally:
        guest.gone.set()
        client.close()
        server.close()
