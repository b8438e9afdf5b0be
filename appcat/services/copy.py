"""``cp``: files into a guest and out of it, with the rules of ``cp -r``, as a tar stream.

How a command comes to run in a guest is a parameter (``Reach``): over SSH from here, or through a daemon.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from appcat.errors import AppcatError, GuestError, InvalidInput, NotFound, from_os_error
from appcat.guest import archive, remote
from appcat.guest.archive import Tally
from appcat.model.name import check_name
from appcat.services.context import Context, Progress
from appcat.services.execute import session

if TYPE_CHECKING:
    import paramiko

# Runs a command in a guest, joined to streams, for so many seconds at most (None: without end); its exit status.
Runner = Callable[[Sequence[str], remote.Streams, float | None], int]
# The guest of the vm with this name, while the block runs.
Reach = Callable[[str], contextlib.AbstractContextManager[Runner]]

ASK_PATIENCE = 60.0
KIB = 1024
# What tar says of things that are no files, and of files that others write to: nothing is wrong with the rest.
_HARMLESS = (
    "socket ignored",
    "unknown file type",
    "file changed as we read it",
    "Removing leading",
    "removing leading",
)

_WHAT_IS = """for p; do
  if [ -L "$p" ]; then echo other; elif [ -d "$p" ]; then echo dir
  elif [ -e "$p" ]; then echo other; else echo missing; fi
done"""
TARGET_IS = """if [ -d "$1" ]; then echo dir; elif [ -e "$1" ] || [ -L "$1" ]; then echo other
elif [ -d "$2" ]; then echo missing; else echo no-parent; fi"""
_SIZES = 'for p; do du -sk "$p" 2>/dev/null | cut -f 1; done'


class IncompleteCopy(AppcatError):
    """Some files were copied and some were not."""

    code = "copy-incomplete"


@dataclass(frozen=True)
class Place:
    """A path on this computer, or in the guest of ``vm``."""

    vm: str
    path: str

    @classmethod
    def parse(cls, text: str) -> Place:
        """``VM:PATH`` or a path of this computer (which has no colon before its first slash); raises InvalidInput."""
        vm, colon, path = text.partition(":")
        if not text:
            raise InvalidInput("a path is empty", hint="the present directory is '.'")
        return cls("", text) if not colon or "/" in vm else cls.in_guest(vm, path)

    @classmethod
    def in_guest(cls, vm: str, path: str) -> Place:
        """A path in the guest of ``vm``; a relative one begins at the home directory. Raises InvalidInput."""
        if "\0" in path:
            raise InvalidInput("a path has a NUL byte in it", hint="leave it out")
        path = path.removeprefix("~/") if path != "~" else ""
        return cls(check_name(vm), path if path.startswith("/") else f"./{path}")

    def __str__(self) -> str:
        return f"{self.vm}:{self.path.removeprefix('./') or '.'}" if self.vm else self.path

    @property
    def name(self) -> str:
        """The last component; empty where it is not a name of its own, such as ``.``"""
        last = posixpath.basename(self.path.rstrip("/"))
        return "" if last in (".", "..") else last

    @property
    def parent(self) -> str:
        """The directory it is in."""
        return posixpath.dirname(self.path.rstrip("/")) or ("/" if self.path.startswith("/") else ".")


@dataclass(frozen=True)
class Source:
    """What is to be copied: ``directory`` when all in it is meant, else one file or link."""

    place: Place
    directory: bool


@dataclass(frozen=True)
class Target:
    """Where it goes: into ``parent``, there called ``name`` if that is given, else as it was called."""

    parent: str
    name: str

    def name_of(self, source: Source) -> str:
        """What ``source`` will be called; empty when its contents go right into ``parent``."""
        return self.name or source.place.name


@dataclass(frozen=True)
class Copied:
    """What was done: files and links, their bytes, and what was left out because it is no file."""

    files: int
    bytes: int
    skipped: tuple[str, ...]


def copy(ctx: Context, sources: Sequence[Place], target: Place) -> Copied:
    """``copy_files`` with the guests of this home."""
    return copy_files(partial(_over_ssh, ctx), ctx.progress, sources, target)


@contextlib.contextmanager
def _over_ssh(ctx: Context, name: str) -> Iterator[Runner]:
    """One connection for all commands."""
    with session(ctx, name) as connection:
        yield over(connection)


def over(connection: paramiko.Transport) -> Runner:
    """Runs commands on an SSH connection."""

    def run(command: Sequence[str], streams: remote.Streams, timeout: float | None) -> int:
        return remote.run(connection, command, streams, None if timeout is None else remote.deadline_in(timeout))

    return run


def copy_files(reach: Reach, progress: Progress, sources: Sequence[Place], target: Place) -> Copied:
    """Copy ``sources`` to ``target``: into it where it is a directory, else under its name.

    One side is this computer, the other a guest. Modes, times, symbolic and hard links stay. Raises InvalidInput,
    NotFound and WrongState before anything has changed; IncompleteCopy when some files could not be copied; GuestError,
    InsufficientSpace and Unavailable in between, with every file on this computer whole or as it was before.
    """
    vms = {place.vm for place in sources}
    if not sources or (bool(target.vm) == any(vms)) or (len(vms) > 1 and "" in vms):
        raise InvalidInput(
            "one side of a copy is this computer and the other a vm",
            hint="write the vm's side as VM:PATH, such as: appcat vm cp notes.txt web:/root",
        )
    tally = Tally()
    try:
        if target.vm:
            _into_guest(reach, progress, sources, target, tally)
        else:
            _out_of_guests(reach, progress, sources, target, tally)
    except OSError as error:
        raise from_os_error(error, "copying") from error
    if tally.failed:
        more = f" and {len(tally.failed) - 1} more" if len(tally.failed) > 1 else ""
        raise IncompleteCopy(
            f"not all could be copied: {tally.failed[0]}{more}",
            hint=f"the rest was: {tally.files} files",
            details="\n".join(tally.failed),
        )
    return Copied(tally.files, tally.bytes, tuple(tally.skipped))


def _into_guest(reach: Reach, progress: Progress, places: Sequence[Place], target: Place, tally: Tally) -> None:
    sources = [_look(place) for place in places]
    with reach(target.vm) as run:
        kind = ask(run, TARGET_IS, [target.path, target.parent])[0]
        decided = _decide(kind, target, sources)
        wanted = [(_path_of(source), decided.name_of(source)) for source in sources]
        _announce(progress, tally, f"copying to {target.vm}", archive.total_size([path for path, _ in wanted]))
        _push(run, decided.parent, wanted, tally)


def _out_of_guests(reach: Reach, progress: Progress, places: Sequence[Place], target: Place, tally: Tally) -> None:
    with contextlib.ExitStack() as stack:
        guests = {vm: stack.enter_context(reach(vm)) for vm in dict.fromkeys(place.vm for place in places)}
        sources = [look_in_guest(guests[place.vm], place) for place in places]
        decided = _decide(_kind(target), target, sources)
        size = sum(_size_in_guest(guests[place.vm], place) for place in places)
        _announce(progress, tally, f"copying from {', '.join(guests)}", size)
        for source in sources:
            _pull(guests[source.place.vm], source, Path(decided.parent), decided.name_of(source), tally)


def _decide(kind: str, target: Place, sources: Sequence[Source]) -> Target:
    """What ``cp -r`` does with a target of this kind; raises NotFound, InvalidInput."""
    if kind == "no-parent":
        raise no_directory(Place(target.vm, target.parent))
    if kind == "dir":
        names = [source.place.name for source in sources if source.place.name]
        if twice := {name for name in names if names.count(name) > 1}:
            raise InvalidInput(f"two of the sources are called {min(twice)}", hint="copy them one after the other")
        return Target(target.path, "")
    if len(sources) > 1:
        raise InvalidInput(f"{target} is not a directory", hint="several sources need a directory to go to")
    if not sources[0].directory and target.path.endswith("/"):
        raise InvalidInput(f"{target} is not a directory", hint="make it first, or leave the slash out")
    if sources[0].directory and kind == "other":
        raise InvalidInput(f"{target} is a file", hint="a directory cannot take its place: remove it first")
    return Target(target.parent, target.name)


def _kind(target: Place) -> str:
    path = Path(target.path)
    if path.is_dir():
        return "dir"
    if os.path.lexists(path):
        return "other"
    return "missing" if Path(target.parent).is_dir() else "no-parent"


def _look(place: Place) -> Source:
    try:
        return Source(place, stat.S_ISDIR(os.lstat(place.path).st_mode))  # a link with a slash after it is followed
    except (FileNotFoundError, NotADirectoryError):
        raise missing(place) from None


def _path_of(source: Source) -> Path:
    """Where the source is; of a directory, without a link on its end."""
    path = Path(source.place.path)
    return path.resolve() if source.directory else path


def look_in_guest(run: Runner, place: Place) -> Source:
    """What is at a path of a guest; raises NotFound, GuestError."""
    kind = ask(run, _WHAT_IS, [place.path])[0]
    if kind == "missing":
        raise missing(place)
    return Source(place, kind == "dir")


def _size_in_guest(run: Runner, place: Place) -> int:
    answer = ask(run, _SIZES, [place.path])
    return int(answer[0]) * KIB if answer and answer[0].isdigit() and len(answer[0]) < 16 else 0


def missing(place: Place) -> NotFound:
    """The error for a path at which there is nothing."""
    return NotFound(f"there is no {archive.shown(str(place))}", hint="nothing was copied", code="no-such-file")


def no_directory(place: Place) -> NotFound:
    """The error for a directory that is not there."""
    return NotFound(
        f"there is no directory {archive.shown(str(place))}", hint="make it first", code="no-such-directory"
    )


def _announce(progress: Progress, tally: Tally, step: str, total: int) -> None:
    tally.total = total
    tally.report = lambda done, known: progress(step, done, known)
    progress(step, 0, total)


def ask(run: Runner, script: str, paths: Sequence[str]) -> list[str]:
    """The lines that a script of ours prints; at least one. Raises GuestError."""
    with tempfile.TemporaryFile() as output, open(os.devnull, "wb") as nowhere:  # noqa: PTH123
        command = ["sh", "-c", script, "sh", *paths]
        run(command, remote.Streams(None, output, nowhere), ASK_PATIENCE)
        output.seek(0)
        return output.read(KIB).decode(errors="replace").splitlines() or [""]


def _push(run: Runner, directory: str, sources: Sequence[tuple[Path, str]], tally: Tally) -> None:
    reader, writer = pipe()
    worker = Worker(lambda: closing(writer, lambda: archive.pack(writer, sources, tally)))
    with reader, tempfile.TemporaryFile() as errors, open(os.devnull, "wb") as nowhere:  # noqa: PTH123
        worker.start()
        try:
            streams = remote.Streams(reader, nowhere, errors)
            status = run(["tar", "-x", "-p", "-o", "-f", "-", "-C", directory], streams, None)
        except BaseException:
            tally.stopped.set()
            raise
        finally:
            if worker.is_alive():  # tar gave up: let it come to its end
                tally.stopped.set()
            while os.read(reader.fileno(), archive.CHUNK):
                pass
            worker.join()
        worker.check()
        judge(status, errors, tally)


def _pull(run: Runner, source: Source, parent: Path, name: str, tally: Tally) -> None:
    place = source.place
    base = "" if source.directory else place.name
    reader, writer = pipe()
    unpacker = archive.Unpacker(parent, base, name, tally)
    worker = Worker(lambda: closing(reader, lambda: unpacker.unpack(reader)))
    what = ["-C", place.path, "."] if source.directory else ["-C", place.parent, f"./{place.name}"]
    status = 0
    with tempfile.TemporaryFile() as errors:
        worker.start()
        try:
            streams = remote.Streams(None, writer, errors)
            status = run(["tar", "-c", "-f", "-", *what], streams, None)
        except BrokenPipeError:  # the worker has given up, and says why
            tally.stopped.set()
        finally:
            writer.close()
            worker.join()
        if status and isinstance(worker.error, archive.CutOff):
            worker.error = None
        worker.check()
        judge(status, errors, tally)


class Worker(threading.Thread):
    """One end of a pipe at work; ``check`` raises what it came to."""

    def __init__(self, work: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self.error: BaseException | None = None

    def run(self) -> None:
        """Do it."""
        try:
            self._work()
        except BaseException as error:  # told to whoever waits
            self.error = error

    def check(self) -> None:
        """Raise what went wrong; that it was told to stop is no news."""
        if self.error is not None and not isinstance(self.error, archive.Stopped):
            raise self.error


def pipe() -> tuple[BinaryIO, BinaryIO]:
    """Its reading and its writing end."""
    reader, writer = os.pipe()
    return os.fdopen(reader, "rb"), os.fdopen(writer, "wb")


def closing(file: BinaryIO, work: Callable[[], None]) -> None:
    """Do ``work`` and close the file, whatever comes of it."""
    with file:
        work()


def judge(status: int, errors: BinaryIO, tally: Tally) -> None:
    """What the guest's ``tar`` said: sockets it left out are noted, all else is an error."""
    errors.seek(0)
    lines = [archive.shown(line) for line in errors.read(KIB * KIB).decode(errors="replace").splitlines() if line]
    serious = [line for line in lines if not any(text in line for text in (*_HARMLESS, "from previous errors"))]
    tally.skipped += [line for line in lines if "socket ignored" in line or "unknown file type" in line]
    if status and (serious or not lines):
        hint = "install tar in the guest" if status == 127 else "what was copied before that is there"
        raise GuestError(
            f"the guest's tar failed: {serious[0] if serious else f'status {status}'}",
            hint=hint,
            details="\n".join(serious),
            code="copy-failed",
        )
