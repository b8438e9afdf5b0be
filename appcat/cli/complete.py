"""What the shell offers after TAB: names that exist. Never an error, never a word on standard error."""

from __future__ import annotations

import contextlib


def complete_vm(incomplete: str) -> list[str]:
    """Names of vms; where they are this computer's, from the directories alone."""
    with contextlib.suppress(Exception):
        from appcat.cli.engine import engine

        return [name for name in engine().names() if name.startswith(incomplete)]
    return []


def complete_template(incomplete: str) -> list[str]:
    """Names of templates."""
    with contextlib.suppress(Exception):
        from appcat.cli.engine import engine, is_remote

        if is_remote():
            return [known["name"] for known in engine().list_templates() if known["name"].startswith(incomplete)]
        from appcat.build.catalog import template_names
        from appcat.settings import Settings, templates_directory
        from appcat.store.layout import Layout
        from appcat.store.templates import TemplateStore

        own = TemplateStore(Layout(Settings.load()).templates).names()
        return [name for name in (*template_names(templates_directory()), *own) if name.startswith(incomplete)]
    return []


def complete_network(incomplete: str) -> list[str]:
    """Names of networks; where they are this computer's, from the files' names alone."""
    with contextlib.suppress(Exception):
        return [name for name in _networks() if name.startswith(incomplete)]
    return []


def complete_joining(incomplete: str) -> list[str]:
    """What ``--network`` can begin with: names of networks, and that there should be none."""
    with contextlib.suppress(Exception):
        from appcat.model.network import NO_NETWORK

        return [name for name in (*_networks(), NO_NETWORK) if name.startswith(incomplete)]
    return []


def _networks() -> list[str]:
    from appcat.cli.engine import engine, is_remote

    if is_remote():
        return [known["name"] for known in engine().list_networks()]
    from appcat.model.network import DEFAULT_NETWORK
    from appcat.settings import Settings
    from appcat.store.layout import Layout
    from appcat.store.networks import NetworkStore

    return sorted({DEFAULT_NETWORK, *NetworkStore(Layout(Settings.load())).names()})


def complete_label(incomplete: str) -> list[str]:
    """What a filter can begin with."""
    return [start for start in ("label=", "name=", "status=", "template=") if start.startswith(incomplete)]


def complete_context(incomplete: str) -> list[str]:
    """Names of contexts."""
    with contextlib.suppress(Exception):
        from appcat.model.remote import LOCAL
        from appcat.services import contexts
        from appcat.settings import Settings
        from appcat.store.layout import Layout

        names = [LOCAL, *contexts.read(Layout(Settings.load())).remotes]
        return [name for name in names if name.startswith(incomplete)]
    return []


def complete_event_filter(incomplete: str) -> list[str]:
    """What a filter of events can begin with, and the kinds that there are."""
    with contextlib.suppress(Exception):
        from appcat.model.event import EventKind

        starts = ["vm=", *(f"kind={kind}" for kind in EventKind)]
        return [start for start in starts if start.startswith(incomplete)]
    return []


def complete_operation(incomplete: str) -> list[str]:
    """Ids of operations; where they are this computer's, from the files' names alone."""
    with contextlib.suppress(Exception):
        from appcat.cli.engine import engine, is_remote

        if is_remote():
            return [one["id"] for one in engine().list_operations() if one["id"].startswith(incomplete)]
        from appcat.settings import Settings
        from appcat.store.layout import Layout
        from appcat.store.operations import OperationStore

        return [name for name in OperationStore(Layout(Settings.load())).ids() if name.startswith(incomplete)]
    return []


def complete_running_operation(incomplete: str) -> list[str]:
    """Ids of operations that are at work."""
    with contextlib.suppress(Exception):
        from appcat.cli.engine import engine
        from appcat.model.operation import OperationState

        running = engine().list_operations(OperationState.RUNNING)
        return [one["id"] for one in running if one["id"].startswith(incomplete)]
    return []


def complete_config(incomplete: str) -> list[str]:
    """Keys of the configuration."""
    with contextlib.suppress(Exception):
        from appcat.model.config import KEYS

        return [key for key in KEYS if key.startswith(incomplete)]
    return []
