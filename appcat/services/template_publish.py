"""``template publish``: a directory of images that other hosts take theirs from (setting ``prebuilt``)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from appcat.build.catalog import fingerprint, template_names
from appcat.errors import Broken, InvalidInput, NotFound, from_os_error
from appcat.model.prebuilt import INDEX, Index, Pin, PrebuiltImage, index_from_json, index_to_json
from appcat.services.context import Context
from appcat.services.template_files import export_template
from appcat.services.templates import find, own_templates
from appcat.store.files import write_atomic
from appcat.store.images import file_sha256


@dataclass(frozen=True)
class Published:
    """A whole set: its index, pinned, and what is in it."""

    pin: Pin
    images: tuple[PrebuiltImage, ...]


def publish(ctx: Context, directory: Path, names: Sequence[str] = ()) -> Published:
    """Write the images of templates, or of all that came with appcat, into ``directory``; they are built where needed.

    What the directory holds for other architectures stays in its index. Raises NotFound, InvalidInput for a template
    without a recipe or an index that cannot be read, InsufficientSpace, Unavailable, and what ``build`` raises.
    """
    if not directory.is_dir():
        raise NotFound(f"there is no directory {directory}", hint="make it first")
    wanted = list(dict.fromkeys(names)) or template_names(ctx.settings.templates)
    marks = {name: _mark(ctx, name) for name in wanted}
    others = [image for image in _present(directory / INDEX) if image.fingerprint not in marks.values()]
    others = [image for image in others if image.arch is not ctx.arch or image.template not in marks]
    made = [_publish(ctx, directory, name, mark) for name, mark in marks.items()]
    images = tuple(sorted([*others, *made], key=lambda image: (image.template, image.arch)))
    text = index_to_json(Index(images))
    write_atomic(directory / INDEX, text, 0o644)
    pin = Pin(str(directory.absolute() / INDEX), hashlib.sha256(text.encode()).hexdigest())
    return Published(pin, images)


def _mark(ctx: Context, name: str) -> str:
    directory = find(ctx, name)
    if own_templates(ctx).is_image(name):
        raise InvalidInput(
            f"template {name} came from a vm or a file: it has no recipe that others could have",
            hint=f"give them a file: appcat template export {name} FILE",
            code="no-recipe",
        )
    return fingerprint(directory, ctx.settings.templates, ctx.arch)


def _publish(ctx: Context, directory: Path, name: str, mark: str) -> PrebuiltImage:
    """One image in a file of its own, at once in place of an earlier one."""
    file = directory / f"{name}-{ctx.arch}-{mark[:12]}.appcat"
    new = directory / f".{file.name}.{os.getpid()}"
    try:
        size = export_template(ctx, name, new)
        new.chmod(0o644)
        new.replace(file)
        return PrebuiltImage(name, ctx.arch, mark, file.name, size, file_sha256(file))
    except OSError as error:
        raise from_os_error(error, f"writing {file}") from error
    finally:
        new.unlink(missing_ok=True)


def _present(path: Path) -> tuple[PrebuiltImage, ...]:
    try:
        return index_from_json(path.read_bytes()).images
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise from_os_error(error, f"reading {path}") from error
    except Broken as error:
        raise InvalidInput(
            f"{path} cannot be read: {error.message}", hint="remove it, or take another directory"
        ) from error
