"""Operations: long verbs while they are at work, and what came of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from appcat.errors import AppcatError

SCHEMA = 1

_ID = re.compile(r"[0-9]{8}T[0-9]{6}-[0-9a-f]{6}", re.ASCII)


class OperationState(StrEnum):
    """Where an operation is.

    ::

        running --> succeeded | failed | cancelled
           `------> lost         its process was killed; derived at every look, written nowhere
    """

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    LOST = "lost"


@dataclass(frozen=True)
class Failure:
    """The parts of an ``AppcatError``, and the exit status it gives a command."""

    code: str
    message: str
    hint: str = ""
    details: str = ""
    exit_code: int = 1

    @classmethod
    def of(cls, error: AppcatError) -> Failure:
        """What is kept of an error."""
        return cls(error.code, error.message, error.hint, error.details, error.exit_code)

    def as_error(self) -> AppcatError:
        """The error again, for whoever waited for the operation."""
        error = AppcatError(self.message, hint=self.hint, details=self.details, code=self.code)
        error.exit_code = self.exit_code
        return error


@dataclass(frozen=True)
class Operation:
    """One long verb. Ids sort by time of creation.

    ``created`` and ``ended`` are RFC 3339 UTC with milliseconds, ``ended`` empty while it is running or lost. ``done``
    of ``total`` (0: unknown) of ``step`` is the progress. ``origin`` is who began it: cli, daemon or keeper.
    """

    id: str
    verb: str
    vms: tuple[str, ...]
    state: OperationState
    created: str
    ended: str = ""
    step: str = ""
    done: int = 0
    total: int = 0
    pid: int = 0
    origin: str = "cli"
    error: Failure | None = None
    result: dict[str, object] | None = None
    cancel_requested: bool = False

    @property
    def is_over(self) -> bool:
        """Whether nobody works on it any more."""
        return self.state is not OperationState.RUNNING


def is_operation_id(text: str) -> bool:
    """Whether ``text`` has the shape of an id, and so is safe as a file's name."""
    return bool(_ID.fullmatch(text))
