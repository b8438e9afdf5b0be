"""The inventory: one directory per vm, and nothing else that remembers it."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from appcat.errors import AlreadyExists, AppcatError, Broken, NotFound, from_os_error
from appcat.model import codec, run, vm
from appcat.model.name import check_name, shorten, suggestion
from appcat.store import locks
from appcat.store.files import make_private_directory, remove_tree, sync, sync_directory, unlink, write_atomic
from appcat.store.layout import CREATE_PREFIX, DELETE_PREFIX, Layout, VmPaths

T = TypeVar("T")

TAG_DIGITS = 32

VM = codec.Kind("vm.json", vm.SCHEMA, vm.MIGRATIONS)
RUN = codec.Kind("run.json", run.SCHEMA)
EXIT = codec.Kind("exit.json", run.SCHEMA)


@dataclass(frozen=True)
class VmStore:
    """Reads and writes vm directories. Whoever changes one holds its ``op.lock``."""

    layout: Layout

    def names(self) -> list[str]:
        """Names of all vms, broken ones included, sorted."""
        try:
            with os.scandir(self.layout.vms) as entries:
                return sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise from_os_error(error, "listing the vms") from error

    def find(self, name: str) -> VmPaths:
        """Paths of an existing vm; raises InvalidInput or NotFound."""
        paths = self.layout.vm(check_name(name))
        if not paths.root.is_dir():
            raise not_found(name, self.names())
        return paths

    def load(self, name: str) -> vm.Vm:
        """The vm called ``name``; raises NotFound, or Broken when its file cannot be read."""
        paths = self.find(name)
        loaded = vm.check_sense(codec.loads(vm.Vm, _read(paths.spec), VM))
        if loaded.name == name:
            return loaded
        if self._was_renamed(loaded.name, name):
            return dataclasses.replace(loaded, name=name)
        raise Broken(f"vm.json is of {shorten(loaded.name)}, not of {name}")

    def tag(self, name: str) -> str:
        """What stands for the present contents of ``vm.json``: equal as long as they are; raises NotFound, Broken."""
        return hashlib.sha256(_read(self.find(name).spec).encode()).hexdigest()[:TAG_DIGITS]

    def _was_renamed(self, old: str, new: str) -> bool:
        """Whether a rename was cut off between the directory and the file in it."""
        try:
            return self.layout.vm(new).renaming.read_text(encoding="ascii") == f"{old} {new}\n"
        except (OSError, UnicodeDecodeError):
            return False

    def save(self, spec: vm.Vm) -> None:
        """Replace ``vm.json``."""
        write_atomic(self.layout.vm(spec.name).spec, codec.dumps(spec, VM))

    def add(self, spec: vm.Vm, prepare: Callable[[VmPaths], None], *, durable: bool = True) -> None:
        """Make a vm whole or not at all: built under another name, then renamed.

        ``prepare`` fills the new directory (disks, keys); it need not sync what it writes. One that is not ``durable``
        is made so by ``sync``, while something else goes on. Raises AlreadyExists when the name is taken, and whatever
        ``prepare`` raises, leaving nothing behind.
        """
        if self.layout.vm(spec.name).root.exists():
            raise already_exists(spec.name)
        with self._staging() as staging:
            prepare(staging)
            write_atomic(staging.spec, codec.dumps(spec, VM), durable=False)
            if durable:
                _sync(staging)
            try:
                staging.root.rename(self.layout.vm(spec.name).root)
            except OSError as error:
                if self.layout.vm(spec.name).root.exists():
                    raise already_exists(spec.name) from error
                raise from_os_error(error, f"creating {spec.name}") from error
            if durable:
                sync_directory(self.layout.vms)

    def sync(self, name: str) -> None:
        """Make a new vm survive a power failure."""
        _sync(self.layout.vm(name))
        sync_directory(self.layout.vms)

    def rename(self, spec: vm.Vm, new: str) -> vm.Vm:
        """Give a vm another name; the caller holds its ``op.lock``. Raises AlreadyExists.

        The directory's name is the truth. A note inside says that a rename is under way, so that nobody takes the file
        in it, which still has the old name for a moment, for another vm's.
        """
        old, renamed = spec.name, dataclasses.replace(spec, name=new)
        if self.layout.vm(new).root.exists():
            raise already_exists(new)
        write_atomic(self.layout.vm(old).renaming, f"{old} {new}\n")
        try:
            self.layout.vm(old).root.rename(self.layout.vm(new).root)
            sync_directory(self.layout.vms)
        except OSError as error:
            unlink(self.layout.vm(old).renaming)
            raise from_os_error(error, f"renaming {old}") from error
        self.save(renamed)
        unlink(self.layout.vm(new).renaming)
        return renamed

    def remove(self, name: str) -> None:
        """Take the vm out of the inventory in one step, then remove its files. The caller holds its ``op.lock``."""
        doomed = self.layout.vms / f"{DELETE_PREFIX}{name}-{secrets.token_hex(4)}"
        try:
            self.layout.vm(name).root.rename(doomed)
            sync_directory(self.layout.vms)
        except OSError as error:
            raise from_os_error(error, f"deleting {name}") from error
        remove_tree(doomed)

    def disk_files(self) -> list[Path]:
        """The disks of all vms, those that are being made included; one that is being removed needs its no more."""
        found: list[Path] = []
        with contextlib.suppress(FileNotFoundError):
            for entry in self.layout.vms.iterdir():
                if not entry.name.startswith(DELETE_PREFIX):
                    with contextlib.suppress(FileNotFoundError, NotADirectoryError):  # removed at this moment
                        found += VmPaths(entry).disks.iterdir()
        return [path for path in found if path.suffix == ".qcow2"]

    def sweep(self) -> bool:
        """Remove what an interrupted create or delete left, and say whether there was any.

        One still at work holds the directory's ``op.lock``.
        """
        removed = False
        with contextlib.suppress(FileNotFoundError):
            for entry in list(self.layout.vms.iterdir()):
                if entry.name.startswith((CREATE_PREFIX, DELETE_PREFIX)):
                    with contextlib.suppress(AppcatError, OSError):  # somebody else's, or gone at this moment
                        if not _at_work(entry):
                            remove_tree(entry)
                            removed = True
        return removed

    def load_run(self, name: str) -> run.Run | None:
        """The record of the living QEMU, or None; a damaged one counts as none."""
        return _load_or_none(run.Run, self.layout.vm(name).run, RUN)

    def save_run(self, name: str, record: run.Run) -> None:
        """Write ``run.json``; the host's power takes the QEMU with it, so it need not survive that."""
        write_atomic(self.layout.vm(name).run, codec.dumps(record, RUN), durable=False)

    def load_exit(self, name: str) -> run.Exit | None:
        """How the last QEMU ended, where it is known."""
        return _load_or_none(run.Exit, self.layout.vm(name).exit, EXIT)

    def record_exit(self, name: str, how: run.Exit) -> None:
        """Write ``exit.json`` and drop ``run.json``: this life is over."""
        paths = self.layout.vm(name)
        write_atomic(paths.exit, codec.dumps(how, EXIT))
        unlink(paths.run)

    def forget_run(self, name: str) -> None:
        """Drop ``run.json`` without a reason: all that can be done on a full disk."""
        unlink(self.layout.vm(name).run)

    @contextlib.contextmanager
    def _staging(self) -> Iterator[VmPaths]:
        make_private_directory(self.layout.vms)
        self.sweep()
        try:
            root = Path(tempfile.mkdtemp(prefix=CREATE_PREFIX, dir=self.layout.vms))
        except OSError as error:
            raise from_os_error(error, "making a vm directory") from error
        try:
            with locks.hold(VmPaths(root).op_lock, "create"):
                yield VmPaths(root)
        finally:
            if root.exists():
                remove_tree(root)


def not_found(name: str, names: Iterable[str] = ()) -> NotFound:
    """The error for a vm that is not there; ``names`` are those that are."""
    hint = suggestion(name, names) or "see 'appcat vm list'"
    return NotFound(f"there is no vm {shorten(name)}", hint=hint, code="vm-not-found")


def already_exists(name: str) -> AlreadyExists:
    """The error for a name that is taken."""
    hint = f"use it (appcat vm start {name}), choose another name, or delete it (appcat vm delete {name})"
    return AlreadyExists(f"a vm called {name} exists already", hint=hint)


def _sync(paths: VmPaths) -> None:
    try:
        durable = (paths.spec, paths.host_key, paths.known_hosts, paths.ssh_config, *paths.disks.glob("*"))
        for path in (*durable, paths.disks, paths.root):
            sync(path)
    except OSError as error:
        raise from_os_error(error, f"writing {paths.root.name}") from error


def _at_work(directory: Path) -> bool:
    lock = VmPaths(directory).op_lock
    if lock.exists() and lock.stat().st_size:  # signed, and so held before
        return locks.is_held(lock)
    # mkdtemp came first, the lock held and signed a moment later: give a young directory the benefit of the doubt.
    with contextlib.suppress(FileNotFoundError):
        return time.time() - directory.stat().st_mtime < 60
    return True


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise Broken(f"{path.name} is missing") from error
    except UnicodeDecodeError as error:
        raise Broken(f"{path.name} is not text") from error
    except OSError as error:
        raise Broken(f"{path.name} cannot be read: {error.strerror}") from error


def _load_or_none(cls: type[T], path: Path, kind: codec.Kind) -> T | None:
    try:
        return codec.loads(cls, path.read_text(encoding="utf-8"), kind)
    except (OSError, UnicodeDecodeError, Broken):
        return None
