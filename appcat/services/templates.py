"""``template list|build``, and the image that a vm starts from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from appcat.build.catalog import RECIPE, fingerprint, template_names
from appcat.errors import AppcatError, NotFound
from appcat.model.event import EventKind
from appcat.model.name import check_name, shorten
from appcat.services.context import Context
from appcat.services.events import record
from appcat.services.operations import tracked
from appcat.store.images import ImageStore, StoredImage


@dataclass(frozen=True)
class KnownTemplate:
    """A recipe and the image built from it as it is now, if there is one; ``problem`` when the recipe is unusable."""

    name: str
    description: str
    directory: Path
    image: StoredImage | None
    problem: str = ""


def images(ctx: Context) -> ImageStore:
    """The cache of built images."""
    return ImageStore(ctx.layout.images)


def list_templates(ctx: Context) -> list[KnownTemplate]:
    """Every template there is a recipe for, by name."""
    return [_info(ctx, name) for name in template_names(ctx.settings.templates)]


def find(ctx: Context, name: str) -> Path:
    """The directory of the template's recipe; raises NotFound or InvalidInput."""
    directory = ctx.settings.templates / check_name(name)
    if not (directory / RECIPE).is_file():
        known = ", ".join(template_names(ctx.settings.templates)) or "none"
        raise NotFound(f"there is no template {shorten(name)}", hint=f"there is: {known}", code="template-not-found")
    return directory


def ensure(ctx: Context, name: str) -> StoredImage:
    """The image of template ``name``, built now when the cache has none. Raises as ``build``."""
    mark = fingerprint(find(ctx, name), ctx.settings.templates, ctx.arch)
    return images(ctx).find(mark) or build(ctx, name, rebuild=False)


def _known(ctx: Context, name: str, **_: object) -> tuple[str, ...]:
    find(ctx, name)
    return ()


@tracked("build", _known, lambda stored: {"template": stored.image.template, "image": stored.image.digest})
def build(ctx: Context, name: str, *, rebuild: bool = True) -> StoredImage:
    """Build a template's image; ``rebuild`` looks for newer packages even when there is an image already.

    Raises NotFound, InvalidInput for a bad recipe, BuildError, CommandError, MissingTool, InsufficientSpace.
    """
    from appcat.build.builder import ensure_image

    stored = ensure_image(
        find(ctx, name), ctx.settings.templates, ctx.settings.cache, ctx.progress, ctx.check, rebuild=rebuild
    )
    record(ctx, EventKind.TEMPLATE_BUILT, template=name, image=stored.image.digest)
    return stored


def image_of(ctx: Context, digest: str) -> StoredImage | None:
    """The image with this digest, or None when the cache has lost it or it is damaged."""
    try:
        return images(ctx).get(digest)
    except AppcatError:
        return None


def _info(ctx: Context, name: str) -> KnownTemplate:
    from appcat.build.recipe import read_recipe

    directory = ctx.settings.templates / name
    try:
        source = read_recipe(directory, ctx.settings.templates, ctx.arch)
        mark = fingerprint(directory, ctx.settings.templates, ctx.arch)
    except AppcatError as error:
        return KnownTemplate(name, "", directory, None, error.message)
    return KnownTemplate(name, source.recipe.description, directory, images(ctx).find(mark))
