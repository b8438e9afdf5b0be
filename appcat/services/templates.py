"""``template list|show|build``, and the image that a vm starts from.

Templates came with appcat, or are the home's own: a recipe that was added, or an image that came from a vm or a file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from appcat.build.catalog import RECIPE, fingerprint, template_names
from appcat.errors import AlreadyExists, AppcatError, InvalidInput, NotFound
from appcat.model.event import EventKind
from appcat.model.name import check_name, shorten
from appcat.model.prebuilt import parse_pin
from appcat.services import config
from appcat.services.context import Context
from appcat.services.events import record
from appcat.services.operations import tracked
from appcat.store import locks
from appcat.store.files import make_private_directory
from appcat.store.images import ImageStore, StoredImage
from appcat.store.templates import TemplateStore, copy_recipe


@dataclass(frozen=True)
class KnownTemplate:
    """A template and its image as the recipe is now, if there is one; ``problem`` when it is unusable.

    ``own``: it is the home's own. ``vms`` are those that have the image.
    """

    name: str
    description: str
    directory: Path
    image: StoredImage | None
    problem: str = ""
    own: bool = False
    vms: tuple[str, ...] = ()


def images(ctx: Context) -> ImageStore:
    """The cache of built images."""
    return ImageStore(ctx.layout.images)


def own_templates(ctx: Context) -> TemplateStore:
    """The home's own templates."""
    return TemplateStore(ctx.layout.templates)


def list_templates(ctx: Context) -> list[KnownTemplate]:
    """Every template, by name."""
    users = users_of_images(ctx)
    return [_known(ctx, name, users) for name in names(ctx)]


def show(ctx: Context, name: str) -> KnownTemplate:
    """One template; raises NotFound, InvalidInput."""
    find(ctx, name)
    return _known(ctx, name, users_of_images(ctx))


def names(ctx: Context) -> list[str]:
    """Of all templates."""
    return sorted({*template_names(ctx.settings.templates), *own_templates(ctx).names()})


def find(ctx: Context, name: str) -> Path:
    """The template's directory; raises NotFound or InvalidInput."""
    directory = ctx.settings.templates / check_name(name)
    if (directory / RECIPE).is_file():
        return directory
    own = own_templates(ctx)
    if name in own.names():
        return own.directory(name)
    known = ", ".join(names(ctx)) or "none"
    raise NotFound(f"there is no template {shorten(name)}", hint=f"there is: {known}", code="template-not-found")


def check_free(ctx: Context, name: str) -> None:
    """Refuse a name that came with appcat; raises AlreadyExists, InvalidInput."""
    if check_name(name) in template_names(ctx.settings.templates):
        raise AlreadyExists(
            f"a template called {name} comes with appcat", hint="choose another name", code="template-exists"
        )


def users_of_images(ctx: Context) -> dict[str, list[str]]:
    """By digest of the image, the vms that start from it."""
    users: dict[str, list[str]] = {}
    for name in ctx.store.names():
        try:
            users.setdefault(ctx.store.load(name).template.image, []).append(name)
        except AppcatError:
            continue
    return users


def ensure(ctx: Context, name: str) -> StoredImage:
    """The image of template ``name``, built now when the cache has none, or had from where the
    home's setting ``prebuilt`` says. Raises as ``build``, and as ``fetch_prebuilt``."""
    directory = find(ctx, name)
    if own_templates(ctx).is_image(name):
        return own_templates(ctx).image(name)
    mark = fingerprint(directory, ctx.settings.templates, ctx.arch)
    return images(ctx).find(mark) or _prebuilt(ctx, mark) or build(ctx, name, rebuild=False)


def _prebuilt(ctx: Context, mark: str) -> StoredImage | None:
    """The image of the recipe with this fingerprint from the set that the home is to take images from, if it has it."""
    pin = config.value_of(ctx, "prebuilt", parse_pin, None)
    if pin is None:
        return None
    from appcat.build.prebuilt import fetch_prebuilt

    return fetch_prebuilt(pin, mark, images(ctx), ctx.progress, ctx.check)


def _admitted(ctx: Context, name: str, **_: object) -> tuple[str, ...]:
    check_build(ctx, name)
    return ()


def check_build(ctx: Context, name: str) -> None:
    """Refuse what cannot be built; raises NotFound, InvalidInput."""
    find(ctx, name)
    if own_templates(ctx).is_image(name):
        raise InvalidInput(
            f"template {name} came from a vm or a file: there is no recipe to build it from",
            hint="make it anew: appcat template create, or appcat template import",
            code="no-recipe",
        )


@tracked("build", _admitted, lambda stored: {"template": stored.image.template, "image": stored.image.digest})
def build(ctx: Context, name: str, *, rebuild: bool = True) -> StoredImage:
    """Build a template's image; ``rebuild`` looks for newer packages even when there is an image already.

    Raises NotFound, InvalidInput for a bad recipe, BuildError, CommandError, MissingTool, InsufficientSpace.
    """
    from appcat.build.builder import ensure_image

    stored = ensure_image(
        find(ctx, name),
        ctx.settings.templates,
        ctx.settings.cache,
        lambda: ctx.host,
        ctx.progress,
        ctx.check,
        rebuild=rebuild,
    )
    record(ctx, EventKind.TEMPLATE_BUILT, template=name, image=stored.image.digest)
    return stored


def add(ctx: Context, directory: Path) -> str:
    """Take over the recipe in ``directory`` as a template of the home's own, in place of one with its name; the name.

    A copy is kept: what becomes of the directory afterwards changes nothing until it is added again. Raises NotFound,
    InvalidInput for a bad recipe, AlreadyExists for a name that came with appcat, Unavailable, InsufficientSpace.
    """
    from appcat.build.recipe import read_recipe

    if not (directory / RECIPE).is_file():
        raise NotFound(f"there is no {RECIPE} in {directory}", hint="give the directory of a recipe")
    name = read_recipe(directory.resolve(), ctx.settings.templates, ctx.arch).recipe.name
    check_free(ctx, name)
    make_private_directory(ctx.layout.home)
    with (
        locks.hold(ctx.layout.home_lock, f"add template {name}", check=ctx.check),
        own_templates(ctx).adding(name) as new,
    ):
        copy_recipe(directory, new)
    return name


def image_of(ctx: Context, digest: str) -> StoredImage | None:
    """The image with this digest, or None when it is nowhere any more, or damaged."""
    try:
        return images(ctx).get(digest)
    except AppcatError:
        return next((stored for stored in own_templates(ctx).images() if stored.image.digest == digest), None)


def _known(ctx: Context, name: str, users: dict[str, list[str]]) -> KnownTemplate:
    from appcat.build.recipe import read_recipe

    directory, own = find(ctx, name), own_templates(ctx)
    is_own = directory == own.directory(name)
    try:
        if own.is_image(name):
            stored: StoredImage | None = own.image(name)
            description = stored.image.description if stored else ""
        else:
            description = read_recipe(directory, ctx.settings.templates, ctx.arch).recipe.description
            stored = images(ctx).find(fingerprint(directory, ctx.settings.templates, ctx.arch))
    except AppcatError as error:
        return KnownTemplate(name, "", directory, None, error.message, is_own)
    vms = users.get(stored.image.digest, []) if stored else []
    return KnownTemplate(name, description, directory, stored, own=is_own, vms=tuple(vms))
