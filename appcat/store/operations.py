"""Records of operations: one file each, and a lock that its process holds for as long as it is at work.

The lock, not a process id, says whether a running operation is still alive. Its order with the record matters: locked
before the record appears, let go after the record says how it ended.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from appcat.errors import AppcatError, Broken, NotFound, from_os_error
from appcat.model import codec
from appcat.model.name import shorten
from appcat.model.operation import SCHEMA, Operation, OperationState, is_operation_id
from appcat.store import locks
from appcat.store.files import make_private_directory, unlink, write_atomic
from appcat.store.layout import Layout

log = logging.getLogger(__name__)

KIND = codec.Kind("operation", SCHEMA)
KEPT = 500
KEPT_FOR = 7 * 24 * 3600.0
# What has no record is left over, unless it is being made right now.
SETTLED_AFTER = 3600.0
ATTEMPTS = 100


@dataclass(frozen=True)
class OperationStore:
    """The records of one home."""

    layout: Layout

    def begin(self, identifier: str = "") -> tuple[str, int]:
        """A new id, or the one given, and the descriptor of its held lock: closing it tells that the work is over.

        Raises Unavailable, InsufficientSpace; FileExistsError when the given id is taken.
        """
        make_private_directory(self.layout.operations)
        for _ in range(ATTEMPTS):
            wanted = identifier or new_id()
            try:
                descriptor = self._claim(wanted)
            except FileExistsError:
                if identifier:
                    raise
                continue
            except OSError as error:
                raise from_os_error(error, "recording the operation") from error
            return wanted, descriptor
        raise AppcatError("no free id for an operation was found", hint="try again")

    def save(self, operation: Operation) -> None:
        """Replace the record; it need not survive the host's power, which ends the operation as well."""
        write_atomic(self.layout.operation(operation.id).record, codec.dumps(operation, KIND), durable=False)

    def load(self, identifier: str) -> Operation:
        """One operation as it is now; raises NotFound, Broken when its record is damaged."""
        operation = self._read(identifier)
        if operation.state is not OperationState.RUNNING:
            return operation
        if self.is_alive(identifier):
            return dataclasses.replace(operation, cancel_requested=self.cancel_requested(identifier))
        operation = self._read(identifier)  # it may have ended between the two looks
        if operation.state is not OperationState.RUNNING:
            return operation
        return dataclasses.replace(
            operation, state=OperationState.LOST, cancel_requested=self.cancel_requested(identifier)
        )

    def all(self) -> list[Operation]:
        """Every operation whose record can be read, the oldest first."""
        found = []
        for identifier in self.ids():
            with contextlib.suppress(AppcatError):  # damaged, or pruned this moment
                found.append(self.load(identifier))
        return found

    def ids(self) -> list[str]:
        """Ids of all records, damaged ones included, the oldest first."""
        return sorted(path.stem for path in self._entries() if path.suffix == ".json" and is_operation_id(path.stem))

    def is_alive(self, identifier: str) -> bool:
        """Whether the process that executes it is at it."""
        return locks.is_held(self.layout.operation(identifier).lock)

    def request_cancel(self, identifier: str) -> None:
        """Ask it to stop; raises Unavailable, InsufficientSpace."""
        try:
            self.layout.operation(identifier).cancel.touch(mode=0o600)
        except OSError as error:
            raise from_os_error(error, "asking the operation to stop") from error

    def cancel_requested(self, identifier: str) -> bool:
        """Whether somebody has asked it to stop; cheap."""
        return self.layout.operation(identifier).cancel.exists()

    def end(self, identifier: str, descriptor: int) -> None:
        """Let go, once the record says how it ended."""
        paths = self.layout.operation(identifier)
        with contextlib.suppress(OSError):
            unlink(paths.lock)  # while it is held: nobody else can have it
            unlink(paths.cancel)
        os.close(descriptor)

    def prune(self) -> None:
        """Remove records of ended operations beyond the newest ``KEPT`` or older than ``KEPT_FOR``, and leftovers."""
        now = time.time()
        identifiers = self.ids()
        for place, identifier in enumerate(reversed(identifiers)):
            if (place >= KEPT or now - _begun(identifier) > KEPT_FOR) and not self.is_alive(identifier):
                self._remove(identifier)
        known = set(identifiers)
        for path in self._entries():
            if path.name.partition(".")[0] not in known:
                _remove_leftover(path, now)

    def _remove(self, identifier: str) -> None:
        paths = self.layout.operation(identifier)
        for path in (paths.cancel, paths.lock, paths.record):  # the record last: by it the others are found
            with contextlib.suppress(OSError):
                unlink(path)

    def _claim(self, identifier: str) -> int:
        paths = self.layout.operation(identifier)
        if paths.record.exists():
            raise FileExistsError(identifier)
        descriptor = os.open(paths.lock, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            if not locks.lock_within(descriptor, 1.0):
                raise locks.busy(paths.lock)
        except BaseException:
            os.close(descriptor)
            unlink(paths.lock)
            raise
        return descriptor

    def _read(self, identifier: str) -> Operation:
        if not is_operation_id(identifier):
            raise _not_found(identifier)
        path = self.layout.operation(identifier).record
        try:
            operation = codec.loads(Operation, path.read_bytes(), KIND)
        except FileNotFoundError as error:
            raise _not_found(identifier) from error
        except (OSError, UnicodeDecodeError, Broken) as error:
            raise Broken(
                f"the record of operation {identifier} cannot be read: {error}", hint=f"remove {path}"
            ) from error
        if operation.id != identifier:
            raise Broken(f"the record of operation {identifier} is another's", hint=f"remove {path}")
        return operation

    def _entries(self) -> Iterator[Path]:
        try:
            yield from list(self.layout.operations.iterdir())
        except FileNotFoundError:
            return
        except OSError as error:
            raise from_os_error(error, "listing the operations") from error


def new_id() -> str:
    """An id that sorts by time: the second, its 4096th part, and chance."""
    moment = datetime.now(UTC)
    part = moment.microsecond * 4096 // 1_000_000
    return f"{moment:%Y%m%dT%H%M%S}-{part:03x}{secrets.token_hex(2)[:3]}"


def _begun(identifier: str) -> float:
    """When an id was made, in seconds since the epoch."""
    try:
        return datetime.strptime(identifier[:15], "%Y%m%dT%H%M%S").replace(tzinfo=UTC).timestamp()
    except ValueError:  # digits that are no date
        return 0.0


def _not_found(identifier: str) -> NotFound:
    return NotFound(
        f"there is no operation {shorten(identifier)}", hint="see 'appcat operation list'", code="operation-not-found"
    )


def _remove_leftover(path: Path, now: float) -> None:
    with contextlib.suppress(OSError, AppcatError):
        if now - path.lstat().st_mtime > SETTLED_AFTER and not (path.suffix == ".lock" and locks.is_held(path)):
            unlink(path)
