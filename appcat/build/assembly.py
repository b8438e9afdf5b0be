"""What goes into a guest's file systems, as trees: a whole root in memory; or first steps, and files for a disk."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from appcat import command
from appcat.build.libraries import library_closure
from appcat.build.modules import Modules, modules_alias, modules_dep
from appcat.build.packages import Mirrors
from appcat.build.recipe import Source
from appcat.build.tree import Tree, merged
from appcat.errors import BuildError
from appcat.model.template import Kernel
from appcat.model.vm import Arch

MODULES_TO_LOAD = "etc/modules"
BUSYBOX = "usr/bin/busybox"
# What mounts a root disk needs, and what the builder machine needs besides.
START_MODULES = ("virtio_blk", "ext4", "crc32c_generic")
BUILDER_MODULES = (*START_MODULES, "9pnet_virtio", "9p")
BUILDER_PROGRAMS = ("usr/sbin/mke2fs", "usr/sbin/resize2fs", "usr/sbin/e2fsck")
# Directories that a root disk's first steps mount something on.
_MOUNTED = ("dev", "proc", "sys", "run", "root", "parcel")


def whole_root(source: Source, root: Path, guest_program: Path) -> Tree:
    """The guest's root file system out of unpacked packages, the template's files and the guest program."""
    recipe, kernel, tree = source.recipe, source.kernel, Tree()
    for directory, mode in recipe.directories.items():
        tree.directory(directory, mode)
    for path, local in recipe.files.items():
        tree.file(path, source.files[local.source], local.mode)
    tree.file(recipe.guest, guest_program.read_bytes(), 0o755)
    taken = [merged(path) for paths in recipe.packages.values() for path in paths]
    for path in (*taken, *library_closure(root, taken, source.arch)):
        _take(tree, root, path)
    for link, target in recipe.links.items():
        tree.link(link, target)
    if recipe.applets:
        _add_applets(tree, root, recipe.applets)
    _add_modules(tree, modules_of(root), kernel.boot, (*kernel.boot, *kernel.modules))
    return tree


def _take(tree: Tree, root: Path, path: str) -> None:
    """Copy one file of the packages, with what a link leads to as its content."""
    real = root / path
    if not real.is_file():
        raise BuildError(f"no package of the template has a file /{path}", hint="correct the template's packages")
    tree.file(path, real.read_bytes(), 0o755 if real.stat().st_mode & 0o100 else 0o644)


def _add_applets(tree: Tree, root: Path, program: str) -> None:
    """A link for each name that busybox answers to, unless a package has brought the real program."""
    for applet in command.run([root / merged(program), "--list-full"]).split():
        if applet not in tree:
            tree.link(applet, program)


def _add_modules(tree: Tree, modules: Modules, boot: Iterable[str], all_of_them: Iterable[str]) -> None:
    """Kernel modules, ``boot`` being those that are loaded in any case."""
    shipped = modules.closure(all_of_them)
    directory = f"lib/modules/{modules.version}"
    for module in shipped.values():
        tree.file(f"{directory}/{module.path}", module.data)
    tree.file(f"{directory}/modules.dep", modules_dep(shipped).encode())
    tree.file(f"{directory}/modules.alias", modules_alias(shipped).encode())
    tree.file(MODULES_TO_LOAD, "".join(f"{name}\n" for name in modules.closure(boot)).encode())


def first_steps(root: Path, script: bytes, kernel: Kernel) -> Tree:
    """What a guest with a root disk starts from: it finds the disk, and goes there.

    It has all the modules, for a root disk that knows another kernel: an image may be newer than a vm.
    """
    tree = _small(root, script)
    boot = (*kernel.boot, *START_MODULES)
    _add_modules(tree, modules_of(root), boot, (*boot, *kernel.modules))
    return tree


def builder_root(root: Path, script: bytes, kernel: Kernel, arch: Arch) -> Tree:
    """The machine that fills a root disk."""
    tree = _small(root, script, (*BUILDER_PROGRAMS, *library_closure(root, BUILDER_PROGRAMS, arch)))
    boot = (*kernel.boot, *BUILDER_MODULES)
    _add_modules(tree, modules_of(root), boot, boot)
    return tree


def _small(root: Path, script: bytes, programs: Iterable[str] = ()) -> Tree:
    """busybox, a script that is process 1, and programs that are better than busybox's."""
    tree = Tree()
    for directory in _MOUNTED:
        tree.directory(directory)
    for path in (BUSYBOX, *programs):
        _take(tree, root, path)
    _add_applets(tree, root, f"/{BUSYBOX}")
    tree.file("init", script, 0o755)
    return tree


def files_on_disk(source: Source, root: Path, guest_program: Path, mirrors: Mirrors) -> Tree:
    """What comes on top of installed packages: the recipe's files, the guest program, modules, package sources.

    With their lists, so that a guest can install at once, and where it cannot reach them knows what there is.
    """
    recipe, kernel, tree = source.recipe, source.kernel, Tree()
    for directory, mode in recipe.directories.items():
        tree.directory(directory, mode)
    for path, local in recipe.files.items():
        tree.file(path, source.files[local.source], local.mode)
    for link, target in recipe.links.items():
        tree.link(link, target)
    tree.file(recipe.guest, guest_program.read_bytes(), 0o755)
    tree.file("etc/apt/sources.list", mirrors.sources.encode())
    for fetched in mirrors.lists:
        tree.file(f"var/lib/apt/lists/{fetched.name}", fetched.read_bytes())
    modules = modules_of(root)
    directory = f"lib/modules/{modules.version}"
    for module in modules.closure((*kernel.boot, *kernel.modules)).values():
        tree.file(f"{directory}/{module.path}", module.data)
    for name in ("modules.builtin", "modules.order"):
        tree.file(f"{directory}/{name}", modules.file(name))
    return tree


def modules_of(root: Path) -> Modules:
    """The modules of the one kernel that was unpacked below ``root``; raises BuildError."""
    found = sorted((root / merged("lib/modules")).glob("*/kernel"))
    if len(found) != 1:
        raise BuildError("the kernel package has no modules, or several sets", hint="choose another kernel package")
    return Modules(found[0].parent)


def kernel_of(root: Path) -> Path:
    """The one kernel that was unpacked below ``root``; raises BuildError."""
    found = sorted((root / "boot").glob("vmlinu[xz]-*"))
    if len(found) != 1:
        raise BuildError("the kernel package has no kernel, or several", hint="choose another kernel package")
    return found[0]
