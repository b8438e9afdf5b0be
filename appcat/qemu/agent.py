"""The guest agent's wire protocol: QMP's shape without a greeting, over a virtio serial port.

Source: QEMU Guest Agent Protocol Reference (``qga/qapi-schema.json`` of 7.2). A port keeps what an earlier client left
unread, so every connection begins with ``guest-sync`` and drops answers until its own number comes back.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import time
from pathlib import Path
from typing import Any

from appcat.channel import ChannelClosed, ChannelTimeout, LineChannel
from appcat.checks import Check, unchecked
from appcat.errors import DeadlineExceeded, GuestError

RESYNC_AFTER = 5.0


class AgentRefused(GuestError):
    """The agent answered with an error."""

    code = "agent-refused"


class Agent:
    """A connected and synchronised client; a context manager, one at a time per vm (``agent.lock``).

    ``timeout`` is how many seconds the guest may take until its agent answers for the first time. Raises
    DeadlineExceeded when it does not, GuestError when the port is gone, and what ``check`` raises until then.
    """

    def __init__(self, path: Path, timeout: float, check: Check = unchecked) -> None:
        self._name = path
        deadline = time.monotonic() + timeout
        while True:
            try:
                self._connect(path, timeout, min(deadline, time.monotonic() + RESYNC_AFTER), check)
                return
            except ChannelTimeout as error:
                if time.monotonic() >= deadline:
                    raise silent(timeout) from error
            except ChannelClosed as error:
                raise GuestError(f"the guest agent's port is gone: {error}", hint="is the vm running?") from error

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def execute(self, command: str, timeout: float = 10.0, **arguments: Any) -> Any:
        """Run an agent command; ``arguments`` use ``_`` where the protocol has ``-``.

        Raises AgentRefused, DeadlineExceeded, GuestError.
        """
        deadline = time.monotonic() + timeout
        with _translated(timeout):
            self._send(command, arguments, deadline)
            answer = self._read(deadline)
        if "error" in answer:
            raise AgentRefused(f"the guest agent refused {command}: {answer['error'].get('desc')}")
        return answer.get("return")

    def shutdown(self) -> None:
        """Ask the guest to power off. No answer comes when it works (``guest-shutdown`` has no success response)."""
        deadline = time.monotonic() + 5.0
        with _translated(5.0):
            self._send("guest-shutdown", {"mode": "powerdown"}, deadline)

    def _connect(self, path: Path, timeout: float, deadline: float, check: Check) -> None:
        self._channel = LineChannel(path, timeout)
        try:
            self._synchronise(deadline, check)
        except BaseException:
            self._channel.close()
            raise

    def _synchronise(self, deadline: float, check: Check) -> None:
        number = secrets.randbits(31)
        # 0xff makes the agent's parser drop a half request that an earlier client left behind.
        self._channel.send(b"\xff", deadline)
        self._send("guest-sync", {"id": number}, deadline)
        while self._read(deadline, check).get("return") != number:
            pass

    def _send(self, command: str, arguments: dict[str, Any], deadline: float) -> None:
        request: dict[str, Any] = {"execute": command}
        if arguments:
            request["arguments"] = {key.replace("_", "-"): value for key, value in arguments.items()}
        self._channel.send(json.dumps(request).encode() + b"\n", deadline)

    def _read(self, deadline: float, check: Check = unchecked) -> dict[str, Any]:
        while True:
            line = self._channel.read_line(deadline, check).lstrip(b"\xff")
            with contextlib.suppress(ValueError):
                answer = json.loads(line)
                if isinstance(answer, dict):
                    return answer


def silent(timeout: float) -> DeadlineExceeded:
    """The error for an agent that does not answer."""
    return DeadlineExceeded(
        f"the guest agent did not answer within {timeout:g} s",
        hint="the guest may still be booting, or hang: see the console log that 'appcat vm show' names",
    )


@contextlib.contextmanager
def _translated(timeout: float) -> Any:
    try:
        yield
    except ChannelTimeout as error:
        raise silent(timeout) from error
    except ChannelClosed as error:
        raise GuestError(f"the guest agent's port is gone: {error}", hint="is the vm running?") from error
