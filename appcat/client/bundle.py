"""A bug report that another appcat has made, as a file here."""

from __future__ import annotations

import contextlib
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

from appcat.errors import AlreadyExists, AppcatError, InvalidInput, from_os_error


def fetch(pieces: Iterator[bytes], target: Path) -> list[str]:
    """Write a ``.tar.gz`` that comes in ``pieces`` to ``target``, for this user alone; the names of the files in it.

    Raises AlreadyExists when there is such a file, InvalidInput when there is no such directory, and what the pieces
    raise; then there is no file.
    """
    if not target.parent.is_dir():
        raise InvalidInput(f"{target.parent} is not a directory", hint="give a file in a directory that exists")
    if os.path.lexists(target):
        raise AlreadyExists(f"{target} exists already", hint="give another name, or remove it first")
    beside = target.with_name(f".{target.name}.{os.urandom(6).hex()}.tmp")
    try:
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.writelines(pieces)
        with tarfile.open(beside) as archive:
            names = sorted(name.partition("/")[2] or name for name in archive.getnames())
        beside.rename(target)
    except tarfile.TarError as error:
        raise AppcatError(
            f"what the daemon sent is no archive: {error}", hint="is it as new as this appcat?", code="bad-answer"
        ) from error
    except OSError as error:
        raise from_os_error(error, f"writing {target.name}") from error
    finally:
        with contextlib.suppress(FileNotFoundError):
            beside.unlink()
    return names
