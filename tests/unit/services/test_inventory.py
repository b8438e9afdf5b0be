from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any, cast

import pytest

from appcat.guest import ssh
from appcat.model.shapes import VmInfo
from appcat.services import inventory

HOME = Path("/srv/my cats/100%")


def vm(name: str, **more: Any) -> VmInfo:
    return cast("VmInfo", {"name": name, "status": "running", "detail": "", "template": "pico", **more})


def way(name: str, proxy: str = "") -> ssh.Way:
    return ssh.Way(ssh.Target(name, "127.77.3.4", 20022, "root"), HOME / "ssh/id_ed25519", HOME / "known_hosts", proxy)


VMS = [
    vm("web", labels={"role": "front", "a.b/c": "ü"}, networks=[{"network": "lab"}, {"network": "my-net"}]),
    vm("db", status="stopped", labels={"role": "back", "solo": ""}, networks=[{"network": "lab"}]),
]
WAYS = {"web": way("web"), "db": way("db")}
GROUPS = {
    "label_a_b_c__": ["web"],
    "label_role_back": ["db"],
    "label_role_front": ["web"],
    "label_solo": ["db"],
    "network_lab": ["web", "db"],
    "network_my_net": ["web"],
    "status_running": ["web"],
    "status_stopped": ["db"],
    "template_pico": ["web", "db"],
}


def test_groups_are_what_vms_are() -> None:
    assert inventory.groups(VMS) == GROUPS


def test_as_a_file() -> None:
    found = json.loads(json.dumps(inventory.whole(VMS, WAYS)))
    assert list(found) == ["all"]
    assert {group: list(told["hosts"]) for group, told in found["all"]["children"].items()} == GROUPS
    assert found["all"]["hosts"] == {name: inventory.variables(WAYS[name]) for name in ("web", "db")}


def test_as_a_script() -> None:
    found = json.loads(json.dumps(inventory.listed(VMS, WAYS)))
    assert found.pop("_meta") == {"hostvars": {name: inventory.variables(WAYS[name]) for name in ("web", "db")}}
    assert found.pop("all") == {"hosts": ["web", "db"], "children": list(GROUPS)}
    assert found == {group: {"hosts": names} for group, names in GROUPS.items()}


def test_without_vms_there_is_an_inventory_all_the_same() -> None:
    assert inventory.whole([], {}) == {"all": {"hosts": {}, "children": {}}}
    assert inventory.listed([], {}) == {"_meta": {"hostvars": {}}, "all": {"hosts": [], "children": []}}


def test_ssh_is_told_as_in_its_own_configuration() -> None:
    told = inventory.variables(way("web"))
    words = shlex.split(told.pop("ansible_ssh_common_args"))
    assert told == {
        "ansible_host": "127.77.3.4",
        "ansible_port": 20022,
        "ansible_user": "root",
        "ansible_ssh_private_key_file": str(HOME / "ssh/id_ed25519"),
    }
    given = dict(word.split("=", 1) for word in words[1::2])
    assert set(words[::2]) == {"-o"}
    expected = ssh.options(way("web").target, way("web").key, way("web").known_hosts)
    del expected["IdentityFile"]
    assert given == expected


def test_vms_behind_daemons_go_through_the_same_command_and_share_no_connection() -> None:
    told = [inventory.variables(way("web", f"appcat --host {host} vm tunnel web 22")) for host in ("a://", "b://")]
    assert [shlex.split(one["ansible_ssh_common_args"])[1] for one in told] == [
        f"ProxyCommand=appcat --host {host} vm tunnel web 22" for host in ("a://", "b://")
    ]
    paths = {one["ansible_control_path"] for one in told}
    assert len(paths) == 2
    assert all(re.fullmatch(r"%\(directory\)s/[0-9a-f]{10}", path) for path in paths)


@pytest.mark.parametrize("text", ["lab", "my-net", "a.b", "ü", "x y", ""])
def test_every_group_has_a_name_that_ansible_takes(text: str) -> None:
    assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", inventory.group_name("label", text))
