"""Every error a user can meet, as one tree.

An error says what happened (``message``) and what to do (``hint``), each in one line, and carries a stable ``code``
that programs may rely on. ``details`` holds what helps only when one looks closer (a log tail, a command's output).

::

    AppcatError
    |-- InvalidInput          bad name, size, port ...; refused before anything changed
    |-- NotFound              no such vm, template ...
    |-- Conflict              the state of things forbids it
    |   |-- AlreadyExists     the name is taken
    |   |-- Busy              somebody else holds the lock
    |   |-- WrongState        e.g. exec in a stopped vm
    |   |-- Stale             it was changed since the caller looked (If-Match)
    |   |-- PortInUse         a host port is taken
    |   `-- Cancelled         somebody called the operation off
    |-- Broken                a file of ours is damaged or from a newer appcat
    |-- Unavailable           this host lacks something: QEMU, memory, disk space, file locks
    |   |-- InsufficientSpace
    |   |-- InsufficientMemory
    |   |-- MissingTool
    |   `-- NetworkError      a private network cannot be joined on this host
    |-- CommandError          a program we ran failed
    |-- BuildError            a template could not be built
    |-- QemuError             QEMU would not start, refused a command, or is silent
    `-- GuestError            the guest did not answer or refused
        `-- DeadlineExceeded
"""

from __future__ import annotations

from collections.abc import Mapping


class AppcatError(Exception):
    """What happened, what to do about it, and a code that stays the same between versions."""

    code = "error"
    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", details: str = "", code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details
        if code:
            self.code = code

    def __str__(self) -> str:
        return self.message


class InvalidInput(AppcatError):
    """The caller gave something that can never work; nothing has changed."""

    code = "invalid-input"
    exit_code = 2


class NotFound(AppcatError):
    """The thing named does not exist."""

    code = "not-found"
    exit_code = 3


class Conflict(AppcatError):
    """The request is sound but the present state forbids it."""

    code = "conflict"
    exit_code = 4


class AlreadyExists(Conflict):
    """The name is taken."""

    code = "already-exists"


class Busy(Conflict):
    """Another command holds the lock; the message says which."""

    code = "busy"


class WrongState(Conflict):
    """The vm is not in a state in which this can be done."""

    code = "wrong-state"


class Stale(Conflict):
    """What the caller has seen is not what is there any more: somebody else changed it in between."""

    code = "stale"


class PortInUse(Conflict):
    """A host port that a vm wants is taken; the message names the owner where it can be known."""

    code = "port-in-use"


class Cancelled(Conflict):
    """Somebody called the operation off while it was under way; what was begun is as after an interrupt."""

    code = "cancelled"


class Broken(AppcatError):
    """A file of ours cannot be read: damaged, or written by a newer appcat."""

    code = "broken"
    exit_code = 5


class Unavailable(AppcatError):
    """This host lacks something that is needed."""

    code = "unavailable"
    exit_code = 6


class InsufficientSpace(Unavailable):
    """A disk or a memory-backed directory is full."""

    code = "no-space"


class InsufficientMemory(Unavailable):
    """The host cannot give the memory that was asked for."""

    code = "no-memory"


class MissingTool(Unavailable):
    """A program that appcat drives is not installed or too old."""

    code = "missing-tool"


class NetworkError(Unavailable):
    """The switch of private networks does not start, does not answer, or was refused something by the host."""

    code = "network-failed"


class CommandError(AppcatError):
    """A short-lived program failed; ``details`` holds the end of its output."""

    code = "command-failed"
    exit_code = 7


class BuildError(AppcatError):
    """A template could not be built; the cache is as it was before."""

    code = "build-failed"
    exit_code = 7


class QemuError(AppcatError):
    """QEMU would not start, refused a monitor command, or does not answer."""

    code = "qemu-failed"
    exit_code = 8


class GuestError(AppcatError):
    """The guest refused, or does not run what it should."""

    code = "guest-failed"
    exit_code = 9


class DeadlineExceeded(GuestError):
    """Something did not happen in the time it was given."""

    code = "deadline-exceeded"


def from_parts(parts: Mapping[str, object]) -> AppcatError:
    """The error whose ``code``, ``message``, ``hint``, ``details`` and ``exit_code`` were told by another process.

    A code that is not known here stays what it is, on the class that its exit status belongs to.
    """
    known = [found for found in globals().values() if isinstance(found, type) and issubclass(found, AppcatError)]
    told = {key: str(parts.get(key) or "") for key in ("code", "message", "hint", "details")}
    status = parts.get("exit_code")
    same_code = [found for found in known if found.code == told["code"]]
    same_status = [found for found in known if found.exit_code == status]  # the first one is the most general
    kind = (same_code or same_status or [AppcatError])[0]
    error = kind(told["message"] or told["code"], hint=told["hint"], details=told["details"], code=told["code"])
    if isinstance(status, int):
        error.exit_code = status
    return error


def from_os_error(error: OSError, doing: str) -> AppcatError:
    """The error a user should see for a system call that failed while ``doing`` something (a verb phrase)."""
    import errno

    where = f": {error.filename}" if error.filename and str(error.filename) not in doing else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return InsufficientSpace(f"no space left while {doing}{where}", hint="free some space, then try again")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return Unavailable(
            f"not permitted while {doing}{where}",
            hint="check who owns the path, or set APPCAT_HOME to a directory of yours",
            code="not-permitted",
        )
    return Unavailable(f"{error.strerror or error} while {doing}{where}", hint="run 'appcat doctor'", code="os-error")
