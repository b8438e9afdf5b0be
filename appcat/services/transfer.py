"""Files into a guest and out of it as streams, for callers whose files are elsewhere: the daemon's clients.

A single file appears in the guest under its name when the whole of it has come, or not at all: it is written beside,
and moved there by a second command, which is given only once the stream is known to be complete.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO

from appcat.errors import AppcatError, GuestError, InvalidInput
from appcat.guest import archive, remote
from appcat.guest.archive import Tally
from appcat.ready import readable
from appcat.services.context import Context
from appcat.services.copy import (
    TARGET_IS,
    Copied,
    Place,
    Source,
    Worker,
    ask,
    closing,
    judge,
    look_in_guest,
    no_directory,
    over,
    pipe,
)
from appcat.services.execute import session

if TYPE_CHECKING:
    import paramiko

DEFAULT_MODE = 0o644
STOP_WITHIN = 0.2

_RECEIVE = 'umask 077; exec cat > "$1"'
# Not into a directory that has taken the name meanwhile; a file that is replaced keeps its mode unless one is given.
_COMMIT = """[ ! -d "$2" ] || { echo "it is a directory now" >&2; exit 1; }
if [ -n "$3" ]; then mode=$3; elif [ -f "$2" ]; then mode=$(stat -c %a "$2"); else mode=$4; fi
chmod "$mode" "$1" && mv -f "$1" "$2\""""
_FORGET = 'rm -f "$1"; echo'
_READABLE = 'if [ -f "$1" ] && [ -r "$1" ]; then wc -c < "$1"; else echo no; fi'


def put_file(
    ctx: Context, name: str, path: str, source: BinaryIO, whole: Callable[[], int | None], mode: int | None = None
) -> Copied:
    """Make what ``source`` (a pipe) gives the file ``path`` of the guest; its old contents stay until all has come.

    ``whole`` is asked at the end of ``source`` for the size of the file; None says that it was cut off, and nothing
    changes. Raises InvalidInput for a directory, NotFound for its parent, GuestError, and what ``session`` raises.
    """
    place = Place.in_guest(name, path)
    with session(ctx, name) as connection:
        kind = ask(over(connection), TARGET_IS, [place.path, place.parent])[0]
        if kind == "no-parent":
            raise no_directory(place)
        if kind == "dir" or not place.name or place.path.endswith("/"):
            raise InvalidInput(f"{archive.shown(str(place))} is a directory", hint="give the file's own path")
        beside = f"{place.parent}/.appcat-{secrets.token_hex(6)}"
        try:
            _run(connection, _RECEIVE, [beside], source)
            if (size := whole()) is None:
                raise InvalidInput("the file was cut off before its end", hint="send it again", code="cut-off")
            wanted = "" if mode is None else f"{mode:o}"
            _run(connection, _COMMIT, [beside, place.path, wanted, f"{DEFAULT_MODE:o}"])
        except BaseException:
            with contextlib.suppress(AppcatError, OSError):
                ask(over(connection), _FORGET, [beside])
            raise
    return Copied(1, size, ())


def put_tree(ctx: Context, name: str, path: str, source: BinaryIO) -> Copied:
    """Unpack the tar archive that ``source`` (a pipe) gives below the directory ``path`` of the guest.

    Raises InvalidInput for what is no archive, or ends in its middle: what came before is there; NotFound for the
    directory, GuestError, and what ``session`` raises.
    """
    place = Place.in_guest(name, path)
    tally = Tally()
    with session(ctx, name) as connection, tempfile.TemporaryFile() as errors, tempfile.TemporaryFile() as nowhere:
        if ask(over(connection), TARGET_IS, [place.path, place.path])[0] != "dir":
            raise no_directory(place)
        reader, writer = pipe()
        worker = Worker(lambda: closing(writer, lambda: _pass_archive(source, writer, tally)))
        worker.start()
        try:
            command = ["tar", "-x", "-p", "-o", "-f", "-", "-C", place.path]
            status = remote.run(connection, command, remote.Streams(reader, nowhere, errors), None)
        finally:
            tally.stopped.set()
            reader.close()  # one that still writes is told so
            worker.join()
        if isinstance(worker.error, archive.UnsafeArchive):
            told = worker.error.message.replace("the guest sent", "it is").replace("the guest's archive", "it")
            raise InvalidInput(f"the body is not a whole tar archive: {told}", hint="send one", code="invalid-archive")
        if not isinstance(worker.error, BrokenPipeError):  # else tar has given up, and says why
            worker.check()
        judge(status, errors, tally)
    return Copied(tally.files, tally.bytes, tuple(tally.skipped))


def get(
    ctx: Context, name: str, path: str, target: BinaryIO, begun: Callable[[bool, int | None], None], *, tar: bool
) -> None:
    """Write a file of the guest to ``target`` (a pipe), or a tar archive: of a directory always, else if ``tar``.

    ``begun`` is told whether it is an archive, and of a file its size, before the first byte; errors that it was not
    told of come before anything was written. Raises NotFound, InvalidInput, GuestError, BrokenPipeError when nobody
    reads, and what ``session`` raises.
    """
    place = Place.in_guest(name, path)
    with session(ctx, name) as connection:
        source = look_in_guest(over(connection), place)
        if source.directory or tar:
            begun(True, None)
            _send_tree(connection, source, target)
            return
        size = ask(over(connection), _READABLE, [place.path])[0].strip()
        if not size.isdigit():
            raise InvalidInput(
                f"{archive.shown(str(place))} is not a file that can be read", hint="ask for a tar of it"
            )
        begun(False, int(size))
        _run(connection, 'exec cat < "$1"', [place.path], None, target)


def _send_tree(connection: paramiko.Transport, source: Source, target: BinaryIO) -> None:
    place = source.place
    what = ["-C", place.path, "."] if source.directory else ["-C", place.parent, f"./{place.name}"]
    with tempfile.TemporaryFile() as errors:
        status = remote.run(connection, ["tar", "-c", "-f", "-", *what], remote.Streams(None, target, errors), None)
        judge(status, errors, Tally())


def _run(
    connection: paramiko.Transport,
    script: str,
    arguments: list[str],
    source: BinaryIO | None = None,
    target: BinaryIO | None = None,
) -> None:
    """Run a script of ours; raises GuestError with its words when it fails."""
    with tempfile.TemporaryFile() as errors, tempfile.TemporaryFile() as nowhere:
        streams = remote.Streams(source, target or nowhere, errors)
        status = remote.run(connection, ["sh", "-c", script, "sh", *arguments], streams, None)
        if status:
            errors.seek(0)
            words = archive.shown(errors.read(1024).decode(errors="replace").strip()) or f"status {status}"
            raise GuestError(f"the guest could not do it: {words}", hint="is its disk full?", code="copy-failed")


def _pass_archive(source: BinaryIO, target: BinaryIO, tally: Tally) -> None:
    """Pass an archive on, counting what is in it; raises UnsafeArchive, OSError, Stopped."""
    passing = _Passing(source, target, tally)
    for member in archive.members(passing):  # type: ignore[arg-type]
        tally.files += not member.info.isdir()
        for data in member.contents:
            tally.count(len(data))
    while passing.read(archive.CHUNK):  # what follows the end mark
        pass


class _Passing:
    """What is read of a pipe goes to ``target``; nobody waits for one who sends nothing once that has been stopped."""

    def __init__(self, source: BinaryIO, target: BinaryIO, tally: Tally) -> None:
        self._source, self._target, self._tally = source, target, tally

    def read(self, size: int) -> bytes:
        """So many bytes, fewer at the end."""
        data = bytearray()
        while len(data) < size and (piece := self._piece(size - len(data))):
            data += piece
        self._target.write(data)
        return bytes(data)

    def _piece(self, size: int) -> bytes:
        while not readable(self._source, STOP_WITHIN):
            if self._tally.stopped.is_set():
                raise archive.Stopped
        return os.read(self._source.fileno(), size)
