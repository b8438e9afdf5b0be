"""``ssh-config``: what makes plain ``ssh NAME``, ``scp`` and ``rsync`` work.

Every vm's directory holds its own piece, kept true by whatever changes it; ``~/.ssh/config`` includes all of them with
one line, so a vm made later is known at once.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from pathlib import Path

from appcat.errors import AppcatError, Broken, from_os_error
from appcat.guest import ssh
from appcat.model.vm import Vm
from appcat.services.context import Context
from appcat.services.keys import user_key
from appcat.store.files import make_private_directory, write_atomic
from appcat.store.layout import VmPaths

MARK = "# appcat"


def ssh_config(ctx: Context, name: str) -> str:
    """The ``Host`` block of a vm; raises NotFound, Broken."""
    return block(ctx, ctx.store.load(name))


def write_ssh_config(ctx: Context, vm: Vm) -> None:
    """Bring the vm's own piece in line with it; the caller holds ``op.lock``."""
    write_atomic(ctx.layout.vm(vm.name).ssh_config, block(ctx, vm))


def block(ctx: Context, vm: Vm) -> str:
    """The ``Host`` block of ``vm``."""
    way = _way(ctx, vm)
    return ssh.config_block(way.target, way.key, way.known_hosts)


def ssh_way(ctx: Context, name: str) -> ssh.Way:
    """How ssh reaches the guest of ``name``, running or not; raises NotFound, Broken."""
    return _way(ctx, ctx.store.load(name))


def _way(ctx: Context, vm: Vm) -> ssh.Way:
    target = ssh.Target(vm.name, vm.ssh_forward.address, vm.ssh_port, vm.login)
    return ssh.Way(target, user_key(ctx).private, ctx.layout.vm(vm.name).known_hosts)


def install(ctx: Context, config: Path | None = None) -> bool:
    """Have ``~/.ssh/config`` include every vm of this home; False when it does already."""
    path = config or default_config()
    for name in ctx.store.names():
        if (vm := _loadable(ctx, name)) is not None:
            write_ssh_config(ctx, vm)
    line = include_line(ctx)
    text = _read(path)
    if line in text.splitlines():
        return False
    make_private_directory(path.parent)
    # First, because what stands below a Host line belongs to that host only.
    _replace(path, f"{line}\n{text}")
    return True


def uninstall(ctx: Context, config: Path | None = None) -> bool:
    """Take the line out again; False when it is not there."""
    path = config or default_config()
    text = _read(path)
    kept = [line for line in text.splitlines(keepends=True) if line.rstrip("\r\n") != include_line(ctx)]
    if "".join(kept) == text:
        return False
    _replace(path, "".join(kept))
    return True


def include_line(ctx: Context) -> str:
    """The one line in ``~/.ssh/config``."""
    # A pattern, in which "?" stands for what ssh versions read in different ways (%% is new in OpenSSH 9.9).
    directory = re.sub(r'[\\%$"]', "?", glob.escape(str(ctx.layout.vms)))
    return f'Include "{directory}/*/ssh_config" {MARK}'


def default_config() -> Path:
    """The user's own SSH configuration."""
    return Path.home() / ".ssh" / "config"


def write_known_hosts(paths: VmPaths, names: Sequence[str]) -> None:
    """The guest's host key under ``names``; raises Broken when it cannot be read."""
    try:
        _, kind, key = paths.known_hosts.read_text(encoding="ascii").split()[:3]
    except (OSError, ValueError) as error:
        raise Broken(f"{paths.known_hosts} cannot be read: {error}") from error
    write_atomic(paths.known_hosts, f"{','.join(names)} {kind} {key}\n")


def _loadable(ctx: Context, name: str) -> Vm | None:
    try:
        return ctx.store.load(name)
    except AppcatError:
        return None


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="surrogateescape")  # read_text would change line ends
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise from_os_error(error, f"reading {path}") from error


def _replace(path: Path, text: str) -> None:
    """Through a link, if it is one: people keep such files elsewhere."""
    target = path.resolve()
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o600
    write_atomic(target, text.encode(errors="surrogateescape"), mode)
