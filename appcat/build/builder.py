"""From a recipe to an image: fetch packages, compile the guest program, put the tree together, pack, publish.

All work is done in a staging directory of the cache; the image appears there at the end by one rename. Two builds of
one recipe from the same packages give the same image: with its root in memory the same bytes, with its root on a disk
the image that is there.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path

from appcat.build import compiler, system
from appcat.build.assembly import kernel_of, whole_root
from appcat.build.catalog import fingerprint
from appcat.build.cpio import archive
from appcat.build.deb import unpack
from appcat.build.licences import Copyrights
from appcat.build.packing import check_limit, describe, pack
from appcat.build.recipe import read_recipe
from appcat.build.workshop import Progress, Workshop, fetching
from appcat.checks import Check, unchecked
from appcat.errors import from_os_error
from appcat.model.host import Host, host_arch
from appcat.model.image import Image, Root
from appcat.store.images import ImageStore, StoredImage

_OUTPUT = "image"


def ensure_image(
    directory: Path,
    templates: Path,
    cache: Path,
    host: Callable[[], Host],
    progress: Progress,
    check: Check = unchecked,
    *,
    rebuild: bool = False,
) -> StoredImage:
    """The image of the recipe in ``directory``: from the cache, or built now, and before it that of its base.

    ``rebuild`` fetches fresh package lists and builds even when there is one; the image stays the same unless packages
    have changed. ``host`` is asked only where a machine has to run. Raises NotFound, InvalidInput, BuildError,
    MissingTool, InsufficientSpace, Unavailable, and what ``check`` raises.
    """
    arch = host_arch(platform.machine())
    source, mark = read_recipe(directory, templates, arch), fingerprint(directory, templates, arch)
    store = ImageStore(cache / "images")
    if not rebuild and (found := store.find(mark)):
        return found
    base = None
    if source.base:
        below = templates / source.base.recipe.name
        told = _about(source.base.recipe.name, progress)
        base = ensure_image(below, templates, cache, host, told, check, rebuild=rebuild)
    with store.building(mark, check) as staging:
        found = store.find(mark)
        if found and not rebuild:
            return found
        shop = Workshop(source, staging, staging / _OUTPUT, cache, progress, check, rebuild)
        try:
            image = system.build(shop, host, base, found) if source.recipe.root is Root.DISK else _build(shop)
        except OSError as error:
            raise from_os_error(error, f"building template {source.recipe.name}") from error
        if found and image == found.image:
            return found
        check_limit(source.recipe, image)
        stored = store.publish(image, shop.output, mark)
        progress("done", 1, 1)
        return stored


def _about(template: str, progress: Progress) -> Progress:
    """Tells of the build of another template."""
    return lambda step, done, total: progress(f"{template}: {step}", done, total)


def _build(shop: Workshop) -> Image:
    """An image whose root is in memory."""
    source, root, tools = shop.source, shop.staging / "root", shop.staging / "tools"
    with fetching(shop) as apt:
        guest = apt.closure([source.kernel.package, *source.recipe.packages])
        compilers = list(apt.candidates(compiler.PACKAGES).values())
        archives = apt.fetch([*guest, *compilers], shop.report("fetching packages"))
        for number, path in enumerate(archives):
            shop.progress("unpacking packages", number, len(archives))
            unpack(path, root if number < len(guest) else tools, shop.check)
    program = shop.compile(tools)
    shop.progress("putting the file system together", 0, 1)
    tree = whole_root(source, root, program)
    shop.progress("compressing", 0, 1)
    pack(kernel_of(root).read_bytes(), archive(tree.nodes), shop.output, shop.check)
    copyrights = Copyrights()
    copyrights.read_directory(root)
    copyrights.read_directory(tools)
    return describe(source, shop.output, [item.package(copyrights.of(item.name)) for item in (*guest, *compilers)])
