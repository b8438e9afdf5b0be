"""``template list|build``, and the image that a vm starts from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from appcat.build.recipe import RECIPE, template_names
from appcat.errors import AppcatError, NotFound
from appcat.model.name import check_name, shorten
from appcat.services.context import Context
from appcat.store.images import ImageStore, StoredImage


@dataclass(frozen=True)
class TemplateInfo:
    """A recipe and the image built from it as it is now, if there is one; ``problem`` when the recipe is unusable."""

    name: str
    description: str
    directory: Path
    image: StoredImage | None
    problem: str = ""


def images(ctx: Context) -> ImageStore:
    """The cache of built images."""
    return ImageStore(ctx.layout.images)


def list_templates(ctx: Context) -> list[TemplateInfo]:
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
    """The image of template ``name``, built now when the cache has none."""
    return build(ctx, name, rebuild=False)


def build(ctx: Context, name: str, *, rebuild: bool = True) -> StoredImage:
    """Build a template's image; ``rebuild`` looks for newer packages even when there is an image already.

    Raises NotFound, InvalidInput for a bad recipe, BuildError, CommandError, MissingTool, InsufficientSpace.
    """
    from appcat.build.builder import ensure_image

    return ensure_image(find(ctx, name), ctx.settings.templates, ctx.settings.cache, ctx.progress, rebuild=rebuild)


def image_of(ctx: Context, digest: str) -> StoredImage | None:
    """The image with this digest, or None when the cache has lost it or it is damaged."""
    try:
        return images(ctx).get(digest)
    except AppcatError:
        return None


def _info(ctx: Context, name: str) -> TemplateInfo:
    from appcat.build.recipe import read_recipe

    directory = ctx.settings.templates / name
    try:
        source = read_recipe(directory, ctx.settings.templates, ctx.arch)
    except AppcatError as error:
        return TemplateInfo(name, "", directory, None, error.message)
    return TemplateInfo(name, source.recipe.description, directory, images(ctx).find(source.fingerprint))
