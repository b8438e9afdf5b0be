"""From a recipe to an image: fetch packages, compile the guest program, put the tree together, pack, publish.

All work is done in a staging directory of the cache; the image appears there at the end by one rename. Two builds of
one recipe from the same packages give the same bytes.
"""

from __future__ import annotations

import hashlib
import lzma
import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from appcat import command
from appcat.build import compiler
from appcat.build.catalog import fingerprint
from appcat.build.cpio import archive
from appcat.build.deb import unpack
from appcat.build.kernel import decompress_kernel
from appcat.build.libraries import library_closure
from appcat.build.modules import Modules, modules_alias, modules_dep
from appcat.build.packages import Apt, Candidate
from appcat.build.recipe import Source, read_recipe
from appcat.build.tree import Tree, merged
from appcat.checks import Check, unchecked
from appcat.errors import BuildError, from_os_error
from appcat.model.host import host_arch
from appcat.model.image import GUEST_LEVEL, Image
from appcat.model.size import format_size
from appcat.model.template import Recipe
from appcat.store.files import make_private_directory
from appcat.store.images import INITRAMFS, KERNEL, ROOTFS, VMLINUX, ImageStore, StoredImage, describe_file
from appcat.store.locks import hold

# Step, how much of it is done, of how much.
Progress = Callable[[str, int, int], None]

PACKAGES_WAIT = 1800.0
_OUTPUT = "image"
_PIECE = 256 << 10
_MODULES_TO_LOAD = "etc/modules"


def ensure_image(
    directory: Path,
    templates: Path,
    cache: Path,
    progress: Progress,
    check: Check = unchecked,
    *,
    rebuild: bool = False,
) -> StoredImage:
    """The image of the recipe in ``directory``: from the cache, or built now.

    ``rebuild`` fetches fresh package lists and builds even when there is one; the image stays the same unless packages
    have changed. Raises NotFound, InvalidInput, BuildError, MissingTool, InsufficientSpace, Unavailable, and what
    ``check`` raises.
    """
    arch = host_arch(platform.machine())
    source, mark = read_recipe(directory, templates, arch), fingerprint(directory, templates, arch)
    store = ImageStore(cache / "images")
    if not rebuild and (found := store.find(mark)):
        return found
    with store.building(mark, check) as staging:
        if not rebuild and (found := store.find(mark)):
            return found
        try:
            image = _build(source, staging, cache, progress, check, rebuild)
        except OSError as error:
            raise from_os_error(error, f"building template {source.recipe.name}") from error
        return store.publish(image, staging / _OUTPUT, mark)


@dataclass(frozen=True)
class _Parts:
    """What the packages gave: unpacked files, the compiler's files, and what came from where."""

    root: Path
    tools: Path
    packages: tuple[Candidate, ...]


def _build(source: Source, staging: Path, cache: Path, progress: Progress, check: Check, fresh: bool) -> Image:
    parts = _fetch(source, staging, cache, progress, check, fresh)
    progress("compiling the guest program", 0, 1)
    program = staging / "appcat-guest"
    compiler.compile_program(source.guest_program, program, parts.tools, source.arch)
    progress("putting the file system together", 0, 1)
    tree = assemble(source, parts.root, program)
    progress("compressing", 0, 1)
    output = staging / _OUTPUT
    _pack(_kernel_file(parts.root).read_bytes(), archive(tree.nodes), output, check)
    image = _describe(source, output, parts.packages)
    _check_limit(source.recipe, image)
    progress("done", 1, 1)
    return image


def _pack(kernel: bytes, rootfs: bytes, output: Path, check: Check) -> None:
    """Write an image's files: both parts compressed and decompressed."""
    output.mkdir()
    (output / KERNEL).write_bytes(kernel)
    (output / VMLINUX).write_bytes(decompress_kernel(kernel))
    (output / ROOTFS).write_bytes(rootfs)
    (output / INITRAMFS).write_bytes(compress(rootfs, check))


def _fetch(source: Source, staging: Path, cache: Path, progress: Progress, check: Check, fresh: bool) -> _Parts:
    root, tools = staging / "root", staging / "tools"
    directory = cache / "packages"
    make_private_directory(directory)
    with hold(directory / "lock", "template build", wait=PACKAGES_WAIT, check=check):
        apt = Apt(directory, source.arch, check)
        progress("fetching package lists", 0, 1)
        apt.refresh(force=fresh)
        guest = apt.closure([source.kernel.package, *source.recipe.packages])
        compilers = list(apt.candidates(compiler.PACKAGES).values())
        archives = apt.fetch([*guest, *compilers], lambda done, total: progress("fetching packages", done, total))
        for number, path in enumerate(archives):
            progress("unpacking packages", number, len(archives))
            unpack(path, root if number < len(guest) else tools, check)
    return _Parts(root, tools, (*guest, *compilers))


def assemble(source: Source, root: Path, guest_program: Path) -> Tree:
    """The guest's root file system out of unpacked packages, the template's files and the guest program."""
    recipe, tree = source.recipe, Tree()
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
    modules = Modules(_modules_directory(root))
    _add_modules(tree, modules, source)
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


def _add_modules(tree: Tree, modules: Modules, source: Source) -> None:
    kernel = source.kernel
    boot = modules.closure(kernel.boot)
    shipped = modules.closure([*kernel.boot, *kernel.modules])
    directory = f"lib/modules/{modules.version}"
    for module in shipped.values():
        tree.file(f"{directory}/{module.path}", module.data)
    tree.file(f"{directory}/modules.dep", modules_dep(shipped).encode())
    tree.file(f"{directory}/modules.alias", modules_alias(shipped).encode())
    tree.file(_MODULES_TO_LOAD, "".join(f"{name}\n" for name in boot).encode())


def _modules_directory(root: Path) -> Path:
    found = sorted((root / merged("lib/modules")).glob("*/kernel"))
    if len(found) != 1:
        raise BuildError("the kernel package has no modules, or several sets", hint="choose another kernel package")
    return found[0].parent


def _kernel_file(root: Path) -> Path:
    found = sorted((root / "boot").glob("vmlinu[xz]-*"))
    if len(found) != 1:
        raise BuildError("the kernel package has no kernel, or several", hint="choose another kernel package")
    return found[0]


def compress(data: bytes, check: Check = unchecked) -> bytes:
    """As small as a kernel can still read: its xz knows this filter for program code and only this kind of checksum.

    In pieces, between which ``check`` is called; they make no difference to the result.
    """
    code = {"id": lzma.FILTER_X86}
    dictionary = {"id": lzma.FILTER_LZMA2, "preset": 9}
    packer = lzma.LZMACompressor(check=lzma.CHECK_CRC32, filters=[code, dictionary])
    packed = bytearray()
    for start in range(0, len(data), _PIECE):
        check()
        packed += packer.compress(memoryview(data)[start : start + _PIECE])
    return bytes(packed + packer.flush())


def _describe(source: Source, output: Path, packages: Iterable[Candidate]) -> Image:
    recipe = source.recipe
    names = (KERNEL, INITRAMFS, VMLINUX, ROOTFS)
    kernel, initramfs, vmlinux, rootfs = (describe_file(output / name) for name in names)
    arguments = " ".join(source.kernel.arguments)
    versions = tuple(sorted((item.package for item in packages), key=lambda package: package.name))
    essentials = (recipe.name, source.arch, kernel.sha256, initramfs.sha256, arguments, recipe.login,
                  recipe.ssh, str(recipe.cpus), str(recipe.memory), str(versions))  # fmt: skip
    return Image(
        template=recipe.name,
        digest=hashlib.sha256("\n".join(essentials).encode()).hexdigest(),
        arch=source.arch,
        kernel=kernel,
        initramfs=initramfs,
        vmlinux=vmlinux,
        rootfs=rootfs,
        arguments=arguments,
        login=recipe.login,
        ssh=recipe.ssh,
        cpus=recipe.cpus,
        memory=recipe.memory,
        packages=versions,
        guest=GUEST_LEVEL,
    )


def _check_limit(recipe: Recipe, image: Image) -> None:
    if recipe.limit is not None and image.compressed_size > recipe.limit:
        raise BuildError(
            f"template {recipe.name} is {format_size(image.compressed_size)}, more than its limit of "
            f"{format_size(recipe.limit)}",
            hint="take something out of it, or raise the limit",
        )
