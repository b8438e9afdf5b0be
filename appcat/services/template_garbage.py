"""``template delete`` and ``prune``: images that nobody needs give their space back."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from appcat.errors import Conflict, WrongState
from appcat.model.event import EventKind
from appcat.services.bases import bases, sweep_layers
from appcat.services.context import Context
from appcat.services.events import record
from appcat.services.templates import KnownTemplate, images, list_templates, own_templates, show, users_of_images
from appcat.store import locks
from appcat.store.files import disk_usage, make_private_directory, remove_tree, unlink


@dataclass(frozen=True)
class Removed:
    """Something that went: ``kind`` for people, ``what`` it was, the bytes it took."""

    kind: str
    what: str
    size: int


def delete(ctx: Context, name: str) -> tuple[Removed, ...]:
    """Remove a template of the home's own; of one that came with appcat, its image, which is built again when needed.

    Raises NotFound, Conflict while vms start from its image, WrongState where there is nothing to remove.
    """
    make_private_directory(ctx.layout.home)
    with locks.hold(ctx.layout.home_lock, f"delete template {name}", check=ctx.check):
        known = show(ctx, name)
        if known.vms:
            raise Conflict(
                f"template {name} is in use: {', '.join(known.vms[:5])}{' ...' if len(known.vms) > 5 else ''}",
                hint="delete these vms first",
                code="template-in-use",
            )
        if not known.own and known.image is None:
            raise WrongState(f"template {name} has no image", hint="there is nothing to delete", code="not-built")
        removed = _remove(ctx, known)
    sweep_layers(ctx)
    record(ctx, EventKind.TEMPLATE_DELETED, template=name)
    return removed


def _remove(ctx: Context, known: KnownTemplate) -> tuple[Removed, ...]:
    removed = []
    if known.image:
        digest = known.image.image.digest
        _remove_warm(ctx, digest)
        if not own_templates(ctx).is_image(known.name):
            removed.append(Removed("image", digest, disk_usage(known.image.directory)))
            images(ctx).remove(digest)
    if known.own:
        removed.append(Removed("template", known.name, disk_usage(known.directory)))
        own_templates(ctx).remove(known.name)
    return tuple(removed)


def _remove_warm(ctx: Context, digest: str) -> None:
    for base in bases(ctx).all():
        if base.warm and base.vm.template.image == digest:
            bases(ctx).remove_if_unused(base.id)


def prune(ctx: Context) -> tuple[Removed, ...]:
    """Remove what no template and no vm of this home needs: images of recipes as they were, what builds that died left,
    packages that were fetched for builds. A vm of another home with the same cache gets its template's present image.
    """
    make_private_directory(ctx.layout.home)
    with locks.hold(ctx.layout.home_lock, "prune templates", check=ctx.check):
        needed = {known.image.image.digest for known in list_templates(ctx) if known.image} | set(users_of_images(ctx))
        store = images(ctx)
        removed = []
        for directory in store.directories():
            if directory.name not in needed:
                _remove_warm(ctx, directory.name)
                removed.append(Removed("image", directory.name, disk_usage(directory)))
                store.remove(directory.name)
        store.sweep()
        removed += _remove_packages(ctx.settings.cache / "packages", ctx)
    sweep_layers(ctx)
    return tuple(removed)


def _remove_packages(directory: Path, ctx: Context) -> list[Removed]:
    """Downloaded packages, unless a build uses them at this moment."""
    if not directory.is_dir():
        return []
    descriptor = locks.open_lock(directory / "lock")
    try:
        if not locks.try_lock(descriptor):
            return []
        found = [path for path in directory.iterdir() if path.name != "lock"]
        size = sum(disk_usage(path) for path in found)
        for path in found:
            remove_tree(path) if path.is_dir() else unlink(path)
        return [Removed("packages", str(directory), size)] if found else []
    finally:
        os.close(descriptor)
