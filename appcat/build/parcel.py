"""What the builder machine is handed: a directory, which it sees read-only as a 9p file system.

::

    bootstrap.tar    files of the packages that every system has, for dpkg to run at all; not when there is a base
    essential/*.deb  the same as packages, and
    packages/*.deb   the others; in both nothing is compressed
    dpkg.cfg         what dpkg leaves out
    files.tar        what comes on top: the recipe's own files
    users units      lines of words: NAME SUDO SHELL GROUP..., and VERB UNIT for systemctl
    commands/NNN     scripts, run in that order
    steps            the script that does it all, in the new root
"""

from __future__ import annotations

import io
import stat
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from appcat.build.deb import add_files, write_plain
from appcat.build.recipe import Source
from appcat.build.tree import MERGED, Tree
from appcat.checks import Check
from appcat.errors import from_os_error
from appcat.model.template import Recipe, User

# Manuals and translations are three quarters of some packages; licences stay.
EXCLUDED = ("usr/share/man/", "usr/share/info/", "usr/share/locale/", "usr/share/doc/", "usr/share/lintian/")
_LICENCES = "copyright"


def write_parcel(
    parcel: Path,
    source: Source,
    archives: tuple[Sequence[Path], Sequence[Path]],
    files: Tree,
    report: Callable[[int, int], None],
    check: Check,
) -> None:
    """Fill the empty directory ``parcel``; ``archives`` are of the packages that every system has, and of the others.

    ``report`` is told how many packages of how many are in it. Raises BuildError, InsufficientSpace.
    """
    essential, others = archives
    try:
        if essential:
            _write_bootstrap(parcel / "bootstrap.tar", essential, check)
        total = len(essential) + len(others)
        for done, archive in enumerate((*essential, *others)):
            report(done, total)
            directory = parcel / ("essential" if done < len(essential) else "packages")
            directory.mkdir(exist_ok=True)
            write_plain(archive, directory / archive.name, check)
        (parcel / "dpkg.cfg").write_text(_dpkg_configuration())
        (parcel / "files.tar").write_bytes(_tar(files, source.recipe.directories))
        (parcel / "users").write_text(_lines(_user_words(name, user) for name, user in source.recipe.users.items()))
        (parcel / "units").write_text(_lines(_unit_words(source.recipe)))
        (parcel / "commands").mkdir()
        for number, command in enumerate(source.commands):
            (parcel / "commands" / f"{number:03}").write_text(command + "\n")
        (parcel / "steps").write_bytes((source.common / "steps").read_bytes())
    except OSError as error:
        raise from_os_error(error, f"preparing template {source.recipe.name}") from error


def _write_bootstrap(path: Path, archives: Iterable[Path], check: Check) -> None:
    with tarfile.open(path, "w") as tar:
        for name in MERGED:
            tar.addfile(_entry(f"usr/{name}", stat.S_IFDIR | 0o755))
            tar.addfile(_entry(name, stat.S_IFLNK | 0o777, f"usr/{name}"))
        for archive in archives:
            add_files(archive, tar, is_wanted, check)
        for name in ("var/lib/dpkg/status", "var/lib/dpkg/available"):
            tar.addfile(_entry(name, stat.S_IFREG | 0o644))


def is_wanted(path: str) -> bool:
    """Whether dpkg would install a file, by ``dpkg.cfg``."""
    return not path.startswith(EXCLUDED) or path.endswith(f"/{_LICENCES}")


def _dpkg_configuration() -> str:
    excluded = "".join(f"path-exclude=/{directory}*\n" for directory in EXCLUDED)
    return f"{excluded}path-include=/usr/share/doc/*/{_LICENCES}\n"


def _tar(tree: Tree, directories: Mapping[str, int]) -> bytes:
    """The tree as an archive, of directories only those that were asked for: others may be there, as they should be."""
    wanted = {path.lstrip("/") for path in directories}
    empty = Tree().nodes
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for path, node in sorted(tree.nodes.items()):
            if path in empty or (stat.S_ISDIR(node.mode) and path not in wanted):
                continue
            entry = _entry(path, node.mode, node.data.decode() if stat.S_ISLNK(node.mode) else "")
            entry.size = len(node.data) if stat.S_ISREG(node.mode) else 0
            tar.addfile(entry, io.BytesIO(node.data) if entry.size else None)
    return packed.getvalue()


def _entry(path: str, mode: int, target: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(path)
    entry.mode = stat.S_IMODE(mode)
    entry.type = tarfile.DIRTYPE if stat.S_ISDIR(mode) else tarfile.SYMTYPE if target else tarfile.REGTYPE
    entry.linkname = target
    return entry


def _user_words(name: str, user: User) -> str:
    return " ".join([name, "yes" if user.sudo else "no", user.shell, *user.groups])


def _unit_words(recipe: Recipe) -> list[str]:
    return [*(f"enable {unit}" for unit in recipe.enable), *(f"mask {unit}" for unit in recipe.mask)]


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
