"""The audit log: one JSON line for each request that changes something, or was refused doing so."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from appcat.daemon.door import Peer

log = logging.getLogger(__name__)

LIMIT = 4 << 20  # bytes, then the file becomes ``.1``
LONGEST_PATH = 512


@dataclass
class Audit:
    """Appends to ``path``. Never a body, a query or a token: only who did what, and what came of it."""

    path: Path

    def note(self, peer: Peer, method: str, path: str, status: int, seconds: float, operation: str = "") -> None:
        """One request. A disk that is full is logged; the request has been answered anyway."""
        line = {
            "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "door": str(peer.door.kind),
            "who": peer.who,
            "peer": peer.address,
            "method": method,
            "path": path[:LONGEST_PATH],
            "status": status,
            "operation": operation,
            "seconds": round(seconds, 3),
        }
        try:
            self._append(json.dumps(line).encode() + b"\n")
        except OSError as error:
            log.warning("the audit log cannot be written: %s", error)

    def _append(self, line: bytes) -> None:
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(descriptor).st_size > LIMIT:
                self.path.replace(self.path.with_name(self.path.name + ".1"))
                os.close(descriptor)
                descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            os.write(descriptor, line)
        finally:
            os.close(descriptor)
