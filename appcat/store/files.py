"""Writing files so that a reader, or the next boot, sees the old content or the new, never a part."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from appcat.errors import Unavailable, from_os_error


def write_atomic(path: Path, data: str | bytes, mode: int = 0o600, *, durable: bool = True) -> None:
    """Replace ``path`` with ``data``; raises InsufficientSpace or Unavailable and leaves the old file.

    What is not ``durable`` may be lost with the host's power, but with nothing less: for what a reboot ends anyway, and
    for what is synced later.
    """
    content = data.encode() if isinstance(data, str) else data
    temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        if durable:
            sync_directory(path.parent)
    except OSError as error:
        raise from_os_error(error, f"writing {path.name}") from error


def rewrite(path: Path, content: bytes) -> None:
    """Replace a file that is not ours alone: through links, with the mode, owner and attributes it had.

    Whoever reads it sees the old content or the new, also when this is cut off. Raises Unavailable (``not-permitted``
    for what this user may not do), InsufficientSpace.
    """
    target = path.resolve()
    temporary = target.with_name(f".{target.name}.{os.urandom(6).hex()}.tmp")
    try:
        try:
            _write_like(temporary, content, target)
            temporary.replace(target)
        except OSError as error:
            if error.errno != errno.EBUSY:  # a mount of its own, as in containers: it can only be written to
                raise
            _overwrite(target, content)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()
        sync_directory(target.parent)
    except OSError as error:
        raise from_os_error(error, f"writing {path}") from error


def _write_like(temporary: Path, content: bytes, target: Path) -> None:
    """A new file with the content, otherwise like ``target``, synced; mode 0644 when there is none."""
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        mode = 0o644
        with contextlib.suppress(FileNotFoundError):
            old = target.stat()
            mode = stat.S_IMODE(old.st_mode)
            if (old.st_uid, old.st_gid) != (os.getuid(), os.getgid()):
                os.fchown(descriptor, old.st_uid, old.st_gid)
            _copy_attributes(target, temporary)
        file.write(content)
        os.fchmod(descriptor, mode)
        file.flush()
        os.fsync(descriptor)


def _copy_attributes(source: Path, target: Path) -> None:
    """Extended attributes, where there are such: a security label decides who may read the file."""
    if hasattr(os, "listxattr"):
        with contextlib.suppress(OSError):
            for name in os.listxattr(source):
                with contextlib.suppress(OSError):
                    os.setxattr(target, name, os.getxattr(source, name))


def _overwrite(path: Path, content: bytes) -> None:
    """In place, in one write: where the file gets shorter, empty lines stand for what was there until it is cut."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.pwrite(descriptor, content.ljust(os.fstat(descriptor).st_size, b"\n"), 0)
        os.ftruncate(descriptor, len(content))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync(path: Path) -> None:
    """Make a file, or the names in a directory, survive a power failure; one that is not there is fine."""
    with contextlib.suppress(FileNotFoundError):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def sync_directory(path: Path) -> None:
    """Make renames inside ``path`` survive a power failure."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_private_directory(path: Path) -> None:
    """Create ``path`` and its parents for this user alone; raises Unavailable or InsufficientSpace."""
    try:
        for level in reversed([path, *path.parents]):  # mkdir's own "parents" would leave those open to others
            if not level.is_dir():
                level.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise from_os_error(error, "making a directory") from error


def claim_runtime_directory(path: Path) -> None:
    """Create the sockets' directory below a world-writable one, and refuse one that somebody else prepared.

    ``path`` is ``/tmp/appcat-UID/HASH``; both of our levels must be real directories, ours, and closed to others.
    """
    for level in (path.parent, path):
        make_private_directory(level)
        found = level.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
            raise Unavailable(
                f"{level} is not a private directory of yours",
                hint=f"somebody else may have made it: remove it (sudo rm -r {level}) and try again",
                code="unsafe-runtime-directory",
            )


def remove_tree(path: Path) -> None:
    """Remove a directory and what is in it; one that is gone already is fine; raises Unavailable."""
    while path.exists():
        try:
            shutil.rmtree(path)
        except FileNotFoundError:
            continue  # somebody removes in it at the same time, such as a QEMU that ends
        except OSError as error:
            raise from_os_error(error, f"removing {path}") from error


def unlink(path: Path) -> None:
    """Remove a file that may be gone already."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()


def disk_usage(path: Path) -> int:
    """Bytes that a file, or a directory with all below it, takes on disk; links are not followed."""
    total = 0
    for place in [path, *_below(path)]:
        with contextlib.suppress(OSError):
            total += place.lstat().st_blocks * 512
    return total


def shared_usage(directory: Path) -> int:
    """Bytes of the files in a directory that have another name elsewhere: they stay when the directory goes."""
    return sum(status.st_blocks * 512 for path in directory.iterdir() if (status := path.stat()).st_nlink > 1)


def _below(path: Path) -> Iterator[Path]:
    if not path.is_symlink():
        for directory, directories, files in os.walk(path):
            yield from (Path(directory, name) for name in (*directories, *files))
