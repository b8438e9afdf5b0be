"""Speaking with the resident guest program over its virtio serial port.

A request is a document of statements (see ``guest.identity`` and ``templates/guest/appcat-guest.c``), its answer one
line: ``ok ID`` or ``error ID LINE MESSAGE``. Answers with another id belong to a client that hung up; they are dropped.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from appcat.channel import ChannelClosed, ChannelTimeout, LineChannel
from appcat.checks import Check, unchecked
from appcat.errors import DeadlineExceeded, GuestError
from appcat.guest.identity import document


def request(
    path: Path,
    statements: Sequence[str],
    timeout: float,
    once_sent: Callable[[], object] = lambda: None,
    check: Check = unchecked,
) -> str:
    """Have the guest carry out ``statements`` and return the text of its answer.

    ``once_sent`` is called when the request is on its way: a guest that stands still can be let go then, and finds it.

    Raises GuestError when it refuses one or its port is gone, DeadlineExceeded after ``timeout`` seconds, and what
    ``check`` raises while it waits.
    """
    identifier = secrets.token_hex(8)
    deadline = time.monotonic() + timeout
    try:
        with LineChannel(path, timeout) as channel:
            # An empty line first: it ends what a client that vanished may have left half said.
            channel.send(b"\n" + document(identifier, statements).encode(), deadline)
            once_sent()
            while True:
                kind, _, rest = channel.read_line(deadline, check).decode(errors="replace").partition(" ")
                answered, _, text = rest.partition(" ")
                if answered == identifier:
                    break
    except ChannelTimeout as error:
        raise DeadlineExceeded(
            f"the guest program did not answer within {timeout:g} s", hint="is the guest still booting, or hung?"
        ) from error
    except ChannelClosed as error:
        raise GuestError(f"the guest program's port is gone: {error}", hint="is the vm running?") from error
    if kind != "ok":
        raise GuestError(f"the guest program refused: {text}")
    return text
