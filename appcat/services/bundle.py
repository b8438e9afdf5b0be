"""``doctor --bundle``: everything a bug report needs, in one file, and nothing that is nobody's business.

What goes in is a list of known harmless files, never "all but": a new file of a vm stays out until it is named here.
Everything passes through ``redact`` first. Links are not followed, so that no file of elsewhere gets in.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import platform
import pwd
import re
import stat
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from appcat import __version__
from appcat.errors import AlreadyExists, AppcatError, InvalidInput, from_os_error
from appcat.model.codec import encode
from appcat.services.context import Context, now
from appcat.services.doctor import examine
from appcat.services.redact import Redactor, private_values
from appcat.store.operations import OperationStore

TAIL = 64 << 10
WINDOW = 4 * TAIL  # what is redacted before the tail is cut off, so that no secret is cut in two
LARGEST_JSON = 1 << 20
MOST_LISTED = 20_000
MOST_OPERATIONS = 50
TOP = "appcat-report"


@dataclass
class Bundle:
    """The files of a report by name, redacted."""

    redactor: Redactor
    files: dict[str, bytes] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)

    def add(self, name: str, text: str) -> None:
        """A file whose text is redacted already; its name becomes so here, and another's name is not taken."""
        wanted = name = self.redactor.text(name)
        number = 2
        while name in self.files:
            name, number = f"{wanted}.{number}", number + 1
        self.files[name] = text.encode(errors="replace")

    def add_data(self, name: str, data: Any) -> None:
        """Data of our own."""
        self.add(name, json.dumps(self.redactor.data(data), indent=2, ensure_ascii=False) + "\n")

    def add_json(self, name: str, path: Path) -> None:
        """A JSON file, if there is one."""
        content = self._read(name, path, LARGEST_JSON)
        if content is not None:
            self.add(name, self.redactor.json(content[0].decode(errors="replace")))

    def add_lines(self, name: str, path: Path) -> None:
        """The end of a file of JSON documents, a line each, if there is one; lines that cannot be read are left out."""
        content = self._read(name, path, WINDOW)
        if content is None:
            return
        data, whole = content
        lines = data.decode(errors="replace").splitlines()[0 if whole else 1 :]
        redacted = (self._line(line) for line in lines)
        self.add(name, "".join(f"{line}\n" for line in redacted if line))

    def _line(self, line: str) -> str:
        try:
            return json.dumps(self.redactor.data(json.loads(line)), ensure_ascii=False)
        except (ValueError, RecursionError):
            return ""

    def add_tail(self, name: str, path: Path) -> None:
        """The end of a log, if there is one."""
        content = self._read(name, path, WINDOW)
        if content is not None:
            self.add(name, tail(self.redactor, *content))

    def _read(self, name: str, path: Path, limit: int) -> tuple[bytes, bool] | None:
        try:
            return read_end(path, limit)
        except FileNotFoundError:
            return None
        except OSError as error:
            self.unreadable.append(f"{name}: {error.strerror}")
            return None


def write_bundle(ctx: Context, target: Path) -> list[str]:
    """Write the report to ``target``, readable by this user alone; returns the names of the files in it.

    Raises AlreadyExists when there is such a file, InvalidInput when there is no such directory, Unavailable and
    InsufficientSpace when it cannot be written; then there is no file.
    """
    if not target.parent.is_dir():
        raise InvalidInput(f"{target.parent} is not a directory", hint="give a file in a directory that exists")
    if os.path.lexists(target):
        raise _taken(target)
    bundle = collect(ctx)
    _write_new(target, _pack(bundle.files))
    return sorted(bundle.files)


def collect(ctx: Context) -> Bundle:
    """All files of the report, redacted."""
    checks = _checks(ctx)
    bundle = Bundle(redactor_for(ctx))
    bundle.add_data("doctor.json", checks)
    for name in _vm_names(ctx):
        _add_vm(ctx, bundle, name)
    for path in _network_files(ctx):
        bundle.add_json(f"networks/{path.name}", path)
    bundle.add_lines("events.jsonl", ctx.layout.events)
    for identifier in _operations(ctx):
        bundle.add_json(f"operations/{identifier}.json", ctx.layout.operation(identifier).record)
    bundle.add_tail("keeper.log", ctx.layout.keeper_log)
    bundle.add_tail("daemon.log", ctx.layout.daemon_log)
    bundle.add_json("config.json", ctx.layout.home / "config.json")
    bundle.add("home.txt", bundle.redactor.text("".join(_listing(ctx))))
    bundle.add_data("about.json", {**_about(ctx), "unreadable": bundle.unreadable})
    return bundle


def _checks(ctx: Context) -> Any:
    try:
        return [encode(check) for check in examine(ctx)]
    except (AppcatError, OSError) as error:
        return {"error": str(error)}


def _about(ctx: Context) -> dict[str, Any]:
    try:
        qemu = f"{ctx.host.qemu.version}, {ctx.host.accelerator}"
    except (AppcatError, OSError) as error:
        qemu = str(error)
    distribution = ""
    with contextlib.suppress(OSError):
        distribution = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    return {
        "appcat": __version__,
        "python": platform.python_version(),
        "qemu": qemu,
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "distribution": distribution,
        "home": str(ctx.settings.home),
        "cache": str(ctx.settings.cache),
        "runtime": str(ctx.settings.runtime),
        "accelerator": ctx.settings.accelerator,
        "made": now(),
    }


def _vm_names(ctx: Context) -> list[str]:
    """Directories of vms, whatever is in them; links are none."""
    try:
        with os.scandir(ctx.layout.vms) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []


def _network_files(ctx: Context) -> list[Path]:
    try:
        return [ctx.layout.network(name) for name in ctx.networks.names()]
    except AppcatError:
        return []


def _operations(ctx: Context) -> list[str]:
    """Ids of the newest operations."""
    try:
        return OperationStore(ctx.layout).ids()[-MOST_OPERATIONS:]
    except AppcatError:
        return []


def _add_vm(ctx: Context, bundle: Bundle, name: str) -> None:
    paths = ctx.layout.vm(name)
    for path in (paths.spec, paths.run, paths.exit):
        bundle.add_json(f"vms/{name}/{path.name}", path)
    for path in (paths.console_log, paths.qemu_log):
        bundle.add_tail(f"vms/{name}/{path.name}", path)


def _listing(ctx: Context) -> Iterator[str]:
    """Mode, size and name of what is in the home; below ``ssh`` and the cache nothing is listed."""
    home = ctx.layout.home
    closed = {ctx.layout.user_key.parent, ctx.settings.cache}
    count = 0
    for directory, below, names in os.walk(home):
        below[:] = sorted(name for name in below if Path(directory, name) not in closed)
        for name in sorted([*names, *below]) if Path(directory) not in closed else ():
            count += 1
            if count > MOST_LISTED:
                yield "and more\n"
                return
            yield _listed(Path(directory, name), home)
    for path in sorted(closed):
        if path.is_relative_to(home) and path.is_dir():
            yield _listed(path, home)


def _listed(path: Path, home: Path) -> str:
    name = str(path.relative_to(home)).encode(errors="replace").decode().replace("\n", "?")
    try:
        found = path.lstat()
    except OSError as error:
        return f"{error.strerror} {name}\n"
    return f"{stat.filemode(found.st_mode)} {found.st_size:>12} {name}\n"


def read_end(path: Path, limit: int) -> tuple[bytes, bool]:
    """The last ``limit`` bytes of a plain file and whether that is all of it; OSError for anything else."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(0, "not a plain file")
        file.seek(max(found.st_size - limit, 0))
        return file.read(limit), found.st_size <= limit


def tail(redactor: Redactor, content: bytes, whole: bool) -> str:
    """The last ``TAIL`` bytes of a log's end, redacted before they are cut off.

    Of an end that is not the whole, the first line is left out, and lines that go on from it: a secret may have begun
    before it.
    """
    text = content.decode(errors="replace")
    if not whole:
        text = re.sub(r"\A[^\n\r]*(?:[\n\r]+[ \t][^\n\r]*)*(?:[\n\r]|\Z)", "", text)
    text = redactor.text(text)
    encoded = text.encode()
    if len(encoded) <= TAIL:
        return text
    return encoded[-TAIL:].decode(errors="ignore").partition("\n")[2]


def redactor_for(ctx: Context) -> Redactor:
    """What is known of this user, this host and this home, as things that must not be named."""
    users, homes = _person()
    node = os.uname().nodename
    values: set[str] = set()
    public: set[str] = set()
    for path in (*(ctx.layout.vm(name).spec for name in _vm_names(ctx)), *_network_files(ctx)):
        with contextlib.suppress(OSError):
            text = read_end(path, LARGEST_JSON)[0].decode(errors="replace")
            values.update(private_values(text))
    with contextlib.suppress(OSError):
        public.update(os.listdir(ctx.layout.images))  # noqa: PTH208
    places = {
        **_spellings(ctx.settings.cache, "<appcat-cache>"),
        **_spellings(ctx.settings.home, "<appcat-home>"),
        **{key: value for home in homes for key, value in _spellings(Path(home), "<home>").items()},
    }
    hosts = frozenset({node, node.partition(".")[0]})
    return Redactor(frozenset(users), hosts, places, frozenset(values), frozenset(public))


def _person() -> tuple[set[str], set[str]]:
    """Names and home directories of this user."""
    users = {os.environ.get(key, "") for key in ("USER", "LOGNAME", "SUDO_USER", "USERNAME")}
    homes = {os.environ.get("HOME", "")}
    with contextlib.suppress(KeyError):
        entry = pwd.getpwuid(os.getuid())
        full_name = entry.pw_gecos.partition(",")[0].strip()
        users |= {entry.pw_name, full_name, *(word for word in full_name.split() if len(word) > 3)}
        homes.add(entry.pw_dir)
    return users - {""}, {home for home in homes if home.strip("/")}


def _spellings(path: Path, placeholder: str) -> dict[str, str]:
    """A directory as given, as it really is, and as QEMU's options have it (commas doubled)."""
    spelled = {str(path), os.path.realpath(path)} - {"/", "."}
    return dict.fromkeys({*spelled, *(text.replace(",", ",,") for text in spelled)}, placeholder)


def _pack(files: dict[str, bytes]) -> bytes:
    """A .tar.gz that tells nothing of its maker: no names, no ids, no file name in the header."""
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=buffer, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name in sorted(files):
            member = tarfile.TarInfo(f"{TOP}/{name}")
            member.size, member.mode, member.mtime = len(files[name]), 0o600, int(time.time())
            archive.addfile(member, io.BytesIO(files[name]))
    return buffer.getvalue()


def _write_new(target: Path, content: bytes) -> None:
    """Make ``target`` appear with all its content; a link cannot replace what came meanwhile."""
    temporary = target.with_name(f".{target.name}.{os.urandom(6).hex()}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(descriptor, 0o600)
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            target.hardlink_to(temporary)
        finally:
            temporary.unlink()
    except FileExistsError as error:
        raise _taken(target) from error
    except OSError as error:
        raise from_os_error(error, f"writing {target.name}") from error


def _taken(target: Path) -> AlreadyExists:
    return AlreadyExists(f"{target} exists already", hint="choose another name, or remove it")
