"""``appcat template ...``: which command is where."""

from __future__ import annotations

from appcat.cli.lazy import group_of

_COMMANDS = {
    "list": "template_look:list_",
    "show": "template_look:show",
    "build": "template_make:build",
    "create": "template_make:create",
    "export": "template_file:export",
    "import": "template_file:import_",
    "publish": "template_file:publish",
    "delete": "template_delete:delete",
    "prune": "template_delete:prune",
}

group = group_of(
    "Templates: what vms are made from.", {name: f"appcat.cli.{source}" for name, source in _COMMANDS.items()}
)
