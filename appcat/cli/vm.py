"""``appcat vm ...``: which command is where."""

from __future__ import annotations

from appcat.cli.lazy import group_of

_COMMANDS = {
    "create": "vm_create:create",
    "run": "vm_create:run",
    "list": "vm_look:list_",
    "show": "vm_look:show",
    "start": "vm_power:start",
    "stop": "vm_power:stop",
    "restart": "vm_power:restart",
    "pause": "vm_power:pause",
    "unpause": "vm_power:unpause",
    "kill": "vm_power:kill",
    "wait": "vm_power:wait",
    "delete": "vm_delete:delete",
    "exec": "vm_exec:exec_",
    "ssh": "vm_ssh:ssh",
    "ssh-config": "vm_ssh:ssh_config",
    "cp": "vm_copy:cp",
    "console": "vm_console:console",
    "tunnel": "vm_tunnel:tunnel",
    "logs": "vm_logs:logs",
    "stats": "vm_stats:stats",
    "top": "vm_stats:top",
    "edit": "vm_edit:edit",
    "rename": "vm_edit:rename",
    "clone": "vm_clone:clone",
    "flatten": "vm_clone:flatten",
    "export": "template_file:export_vm",
    "label": "vm_edit:label",
    "port": "vm_port",
    "disk": "vm_disk",
    "network": "vm_network",
}

group = group_of("Virtual machines.", {name: f"appcat.cli.{source}" for name, source in _COMMANDS.items()})
