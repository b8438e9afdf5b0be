"""``inventory``: all vms as Ansible knows hosts.

As a file (what Ansible's YAML plugin reads; JSON is YAML) and as the answers of an inventory script. Groups are made
from what a vm is: its networks, its template, its labels, its status.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from appcat.guest import ssh
from appcat.model.shapes import VmInfo

# Told to Ansible in variables of their own, the rest as arguments of ssh.
_OWN_VARIABLES = ("IdentityFile",)

Json = dict[str, Any]


def whole(vms: Sequence[VmInfo], ways: Mapping[str, ssh.Way]) -> Json:
    """The inventory as a file; ``ways`` says how ssh reaches each vm."""
    hosts = {vm["name"]: variables(ways[vm["name"]]) for vm in vms}
    children: Json = {group: {"hosts": {name: {} for name in names}} for group, names in groups(vms).items()}
    return {"all": {"hosts": hosts, "children": children}}


def listed(vms: Sequence[VmInfo], ways: Mapping[str, ssh.Way]) -> Json:
    """What an inventory script answers to ``--list``."""
    found = groups(vms)
    return {
        "_meta": {"hostvars": {vm["name"]: variables(ways[vm["name"]]) for vm in vms}},
        "all": {"hosts": [vm["name"] for vm in vms], "children": [*found]},
        **{group: {"hosts": names} for group, names in found.items()},
    }


def variables(way: ssh.Way) -> Json:
    """What Ansible must know to log in to a vm, and nothing of the user's own known hosts and keys."""
    options = ssh.options(way.target, way.key, way.known_hosts, way.proxy)
    words = [word for key, value in options.items() if key not in _OWN_VARIABLES for word in ("-o", f"{key}={value}")]
    return {
        "ansible_host": way.target.address,
        "ansible_port": way.target.port,
        "ansible_user": way.target.login,
        "ansible_ssh_private_key_file": str(way.key),
        "ansible_ssh_common_args": shlex.join(words),
        **({"ansible_control_path": f"%(directory)s/{_digest(way)}"} if way.proxy else {}),
    }


def _digest(way: ssh.Way) -> str:
    """Tells apart vms of the same name behind different daemons: Ansible would share one connection among them."""
    return hashlib.sha256(f"{way.target.name} {way.proxy}".encode()).hexdigest()[:10]


def groups(vms: Sequence[VmInfo]) -> dict[str, list[str]]:
    """The groups there are, by name, with the vms in them."""
    found: dict[str, list[str]] = {}
    for vm in vms:
        for group in dict.fromkeys(_groups_of(vm)):
            found.setdefault(group, []).append(vm["name"])
    return dict(sorted(found.items()))


def _groups_of(vm: VmInfo) -> list[str]:
    labels = [group_name("label", *((key, value) if value else (key,))) for key, value in vm.get("labels", {}).items()]
    networks = [group_name("network", there["network"]) for there in vm.get("networks", [])]
    return [group_name("status", vm["status"]), group_name("template", vm.get("template", "")), *networks, *labels]


def group_name(*parts: str) -> str:
    """What Ansible takes as the name of a group: letters, digits and ``_``; all else becomes ``_``."""
    return re.sub(r"[^A-Za-z0-9_]", "_", "_".join(parts))
