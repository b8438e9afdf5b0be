"""A daemon's socket through ``ssh``: one ssh process per connection, whose standard streams are the connection.

The first one logs in and stays as a master for a while; those that follow go through its connection, which takes
milliseconds. The user's own ssh configuration holds, agents and jump hosts included.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from appcat import command
from appcat.errors import from_os_error
from appcat.model.remote import Address
from appcat.store.files import claim_runtime_directory, make_private_directory

PERSIST = 60
REMOTE_COMMAND = "appcat daemon dial"
LONGEST_WORDS = 4096
END_PATIENCE = 2.0
# An interrupt is for appcat, which has something to say to the daemon before the line goes.
_DEAF = 'trap "" INT QUIT; exec "$@"'


def control_directory(runtime: Path) -> Path:
    """Where masters listen, for this user alone; raises Unavailable when somebody else has prepared ``runtime``."""
    claim_runtime_directory(runtime)
    path = runtime / "ssh"
    make_private_directory(path)
    return path


def arguments(address: Address, directory: Path) -> list[str]:
    """What follows ``ssh`` on its command line: to ``appcat daemon dial`` on ``address``."""
    options = {
        "ControlMaster": "auto",
        "ControlPath": f"{directory}/%C",
        "ControlPersist": str(PERSIST),
        "ServerAliveInterval": "15",
        "ClearAllForwardings": "yes",
    }
    told = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    port = ["-p", str(address.port)] if address.port else []
    login = ["-l", address.user] if address.user else []
    return ["-T", *told, *port, *login, "--", address.host, REMOTE_COMMAND]


@dataclass
class SshDialer:
    """``ssh://``: opens nothing on the way but what ssh opens. ``runtime`` is this home's directory of sockets."""

    url: str
    address: Address
    runtime: Path
    host: str = "localhost"
    _lines: list[_Line] = field(default_factory=list)

    def dial(self, timeout: float) -> socket.socket:
        """A socket whose other end an ssh process has; that it could not log in shows when nothing is read from it.

        ``timeout`` is ssh's own to keep: it may have to ask the user for a password.
        """
        del timeout
        ssh = command.find("ssh")
        self._lines = [line for line in self._lines[-1:] if line.process.poll() is None or line is self._lines[-1]]
        ours, theirs = socket.socketpair()
        words = tempfile.TemporaryFile()  # noqa: SIM115 - it is read when the line is lost
        argv = ["/bin/sh", "-c", _DEAF, "sh", str(ssh), *arguments(self.address, control_directory(self.runtime))]
        try:
            with theirs:
                process = subprocess.Popen(argv, stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=words)
        except OSError as error:
            ours.close()
            raise from_os_error(error, "starting ssh") from error
        self._lines.append(_Line(process, words))
        return ours

    def lost(self) -> str:
        """What ssh, or the shell over there, said on standard error when it was dialled last."""
        return self._lines[-1].words() if self._lines else ""


@dataclass
class _Line:
    """One ssh process and its standard error."""

    process: subprocess.Popen[bytes]
    errors: IO[bytes]

    def words(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(END_PATIENCE)
        self.errors.seek(0)
        return self.errors.read(LONGEST_WORDS).decode(errors="replace").strip()
