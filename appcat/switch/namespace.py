"""A user namespace with a network namespace in it, for one process without threads.

A namespace lives as long as somebody has it open. Every QEMU with a port inherits descriptors of it, so that it
outlives the switch, and the next one finds it through ``/proc/PID/fd`` of processes of this user: to open one of these
needs no more right over the process than to read its environment.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
from collections.abc import Callable, Iterator

NEW_USER, NEW_NET = 0x10000000, 0x40000000
_GET_USER_NAMESPACE = 0xB701  # ioctl_ns(2): the user namespace that a network namespace belongs to


def unshare(kinds: int) -> None:
    """Move this process into new namespaces; raises OSError."""
    _call("unshare", kinds)


def enter(network: int) -> None:
    """Move this process into the network namespace of a descriptor, and the user namespace that owns it."""
    user = fcntl.ioctl(network, _GET_USER_NAMESPACE)
    try:
        _call("setns", user, NEW_USER)
        _call("setns", network, NEW_NET)
    finally:
        os.close(user)


def own() -> tuple[int, int]:
    """Descriptors of the network and user namespaces that this process is in."""
    flags = os.O_RDONLY | os.O_CLOEXEC
    return os.open("/proc/self/ns/net", flags), os.open("/proc/self/ns/user", flags)


def inode(network: int) -> int:
    """What tells a namespace from all others that live."""
    return os.fstat(network).st_ino


def find(wanted: int, is_it: Callable[[], bool]) -> int | None:
    """A descriptor of the network namespace with this inode that somebody of this user has open, or None.

    An inode is used again, so ``is_it`` is asked inside of it, by a child.
    """
    for path in _held_by_others(f"net:[{wanted}]"):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        if inode(descriptor) == wanted and _agrees(descriptor, is_it):
            return descriptor
        os.close(descriptor)
    return None


def _held_by_others(link: str) -> Iterator[str]:
    me = os.getuid()
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        directory = f"/proc/{pid}/fd"
        try:
            if os.stat(directory).st_uid != me:
                continue
            names = os.listdir(directory)
        except OSError:
            continue
        for name in names:
            path = f"{directory}/{name}"
            try:
                if os.readlink(path) == link:
                    yield path
            except OSError:
                continue


def _agrees(descriptor: int, is_it: Callable[[], bool]) -> bool:
    child = os.fork()
    if child == 0:
        try:
            enter(descriptor)
            os._exit(0 if is_it() else 1)
        except BaseException:
            os._exit(2)
    return os.waitpid(child, 0)[1] == 0


def _call(name: str, *arguments: int) -> None:
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
