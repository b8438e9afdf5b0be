"""Template debian: a small full OS on a disk of its own, and recipes that are based on it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appcat.store.images import ImageStore
from tests.cat import Cat, wait_until
from tests.conftest import cat_in, new_home

pytestmark = [pytest.mark.vm, pytest.mark.xdist_group("debian"), pytest.mark.timeout(2400)]

LIMIT = 300_000_000
BOOT = 600.0
# What /etc/dpkg/dpkg.cfg.d/appcat says is not installed.
LEFT_OUT = re.compile("^missing .*/usr/share/(doc|man|info|locale|lintian)(/|$)")
BUILD = 1800.0


@pytest.fixture(scope="module")
def home(cache: Path, request: pytest.FixtureRequest) -> Iterator[Cat]:
    """A home with one running debian, ``deb``, and one data disk."""
    for cat in cat_in(new_home(), cache, request):
        cat("vm", "create", "deb", "--template", "debian", "--disk", "data=128M", timeout=BUILD)
        cat("vm", "start", "deb", timeout=BOOT)
        yield cat


def sudo(cat: Cat, name: str, script: str, timeout: float = 240.0) -> str:
    return cat("vm", "exec", name, "--", "sudo", "sh", "-c", script, timeout=timeout)


def test_small_enough(home: Cat) -> None:
    image = json.loads(home("template", "show", "debian", "--json"))["image"]
    files = [image[part]["size"] for part in ("kernel", "initramfs")] + [image["disks"][0]["file"]["size"]]
    assert sum(files) <= LIMIT


def test_it_is_a_whole_system(home: Cat) -> None:
    assert home.exec("deb", "id -un; hostname; cat /proc/1/comm").split() == ["debian", "deb", "systemd"]
    assert sudo(home, "deb", "id -u; systemctl is-system-running --wait").split() == ["0", "running"]
    assert sudo(home, "deb", "systemctl list-units --failed --plain --no-legend") == ""
    assert "Python 3" in home.exec("deb", "python3 --version")
    assert sudo(home, "deb", "dpkg --audit") == ""
    changed = sudo(home, "deb", "dpkg --verify || true").splitlines()
    assert [line for line in changed if not LEFT_OUT.search(line)] == []
    mounts = home.exec("deb", "grep -E ' (/|/data) ' /proc/mounts | cut -d' ' -f2-3 | sort")
    assert mounts == "/ ext4\n/data ext4\n"
    assert (
        home.exec("deb", "cat /etc/machine-id").strip()
        == json.loads((home.home / "vms" / "deb" / "vm.json").read_text())["machine_id"]
    )


def test_no_password_opens_it(home: Cat) -> None:
    shadow = sudo(home, "deb", "cut -d: -f1,2 /etc/shadow")
    assert not re.search(r":\$", shadow), shadow
    assert "debian:*\n" in shadow


def test_its_ssh_server_has_the_key_that_was_given_and_sftp(home: Cat, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    home("vm", "cp", str(tmp_path / "file"), "deb:/home/debian/file")
    assert home.exec("deb", "stat -c %U file; cat file") == "debian\ncontent"
    known = (home.home / "vms" / "deb" / "known_hosts").read_text().split()[2]
    assert known in home.exec(
        "deb", "cat /etc/ssh/ssh_host_*_key.pub 2>/dev/null; ssh-keyscan -t ed25519 localhost 2>/dev/null"
    )


def test_packages_are_installed_from_the_hosts_mirrors(home: Cat) -> None:
    """As in the README: lists are there, so nothing has to be updated first."""
    sudo(home, "deb", "apt-get install -y hello", timeout=900)
    assert home.exec("deb", "hello") == "Hello, world!\n"


def test_ansible_works(home: Cat, tmp_path: Path) -> None:
    """With what 'appcat inventory' says and a real Ansible, which is not among this project's packages."""
    ansible = tmp_path / "ansible"
    made = subprocess.run([sys.executable, "-m", "venv", str(ansible)], capture_output=True, check=False)
    assert made.returncode == 0, made.stderr
    pip = [str(ansible / "bin" / "pip"), "install", "--quiet", "ansible-core<2.18"]
    subprocess.run(pip, check=True, timeout=600)
    inventory = tmp_path / "inventory"
    inventory.write_text(f'#!/bin/sh\nexec {" ".join(home.argv("inventory"))} "$@"\n')
    inventory.chmod(0o755)
    done = subprocess.run(
        [str(ansible / "bin" / "ansible"), "-i", str(inventory), "deb", "-m", "ping"],
        env={**home.env, "HOME": str(tmp_path), "ANSIBLE_TIMEOUT": "120", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert '"ping": "pong"' in done.stdout, done.stdout + done.stderr


def test_the_root_disk_grows_while_it_runs_and_gives_back(home: Cat) -> None:
    size = "df --output=size -BM / | tail -1 | tr -d ' M'"
    before = int(home.exec("deb", size))
    home("vm", "edit", "deb", "--disk", "root=12G")
    assert int(home.exec("deb", size)) > before + 1500
    sudo(home, "deb", "head -c 200M /dev/urandom > /big; sync")
    file = home.disk("deb", "root")
    full = file.stat().st_blocks
    assert full * 512 > 200 << 20
    sudo(home, "deb", "rm /big; sync; fstrim /")
    wait_until(lambda: file.stat().st_blocks * 512 < (full * 512) - (150 << 20), what="the host having it back")
    home.fails("root-disk", "vm", "disk", "remove", "--yes", "deb", "root", "--json")


def test_a_disk_is_added_and_removed_while_it_runs(home: Cat) -> None:
    home("vm", "disk", "add", "deb", "logs", "64M")
    assert home.exec("deb", "grep -c ' /disks/logs ext4 ' /proc/mounts") == "1\n"
    home("vm", "disk", "remove", "--yes", "deb", "logs")
    assert "logs" not in home("vm", "disk", "list", "deb")


def test_an_instant_clone_is_another_at_once(home: Cat) -> None:
    """The running system with its memory: another name, key and machine id, its own disk."""
    sudo(home, "deb", "echo here > /root/mark; sync")
    home("vm", "clone", "deb", "twin")
    ask = "hostname; cat /etc/machine-id"
    one, two = home.exec("deb", ask).split(), home.exec("twin", ask).split()
    assert (one[0], two[0]) == ("deb", "twin")
    assert one[1] != two[1]
    sudo(home, "twin", "grep -q here /root/mark && echo twin > /root/mark && sync")
    assert sudo(home, "deb", "cat /root/mark") == "here\n"
    home("vm", "delete", "--force", "twin")


def test_a_linked_clone_boots_what_it_was_cloned_from(home: Cat) -> None:
    sudo(home, "deb", "echo kept > /root/kept; sync")
    home("vm", "clone", "--linked", "deb", "linked")
    home("vm", "start", "linked", timeout=BOOT)
    assert sudo(home, "linked", "cat /root/kept; hostname").split() == ["kept", "linked"]
    home("vm", "delete", "--force", "linked")


def test_what_is_written_outlives_a_restart(home: Cat) -> None:
    sudo(home, "deb", "echo kept > /root/restart; echo kept > /data/restart")
    home("vm", "restart", "deb", timeout=BOOT)
    assert sudo(home, "deb", "cat /root/restart /data/restart").split() == ["kept", "kept"]
    assert "clean shutdown" not in home("vm", "logs", "deb", "--tail", "5")


def test_it_starts_from_memory(home: Cat) -> None:
    """A warm template with a root disk: the first one boots it, the next begins there, each on a disk of its own."""
    home("vm", "run", "warm1", "--template", "debian", "--instant", timeout=BOOT)
    home("vm", "run", "warm2", "--template", "debian", "--instant", timeout=BOOT)
    (base,) = home.warm().values()
    assert {home.run_record(name)["base"] for name in ("warm1", "warm2")} == {base["id"]}
    sudo(home, "warm1", "echo one > /etc/mark; sync")
    assert home.exec("warm2", "hostname; cat /etc/mark 2>/dev/null || echo none").split() == ["warm2", "none"]
    home("vm", "stop", "warm1")
    home("vm", "start", "warm1", timeout=BOOT)
    assert home.exec("warm1", "cat /etc/mark") == "one\n"
    home("vm", "delete", "--force", "warm1", "warm2")


RECIPE = """
name = "mine"
description = "debian with a mark"
base = "debian"
install = ["hello"]
commands = ["echo 'from a command' >/etc/mark", "systemctl --version >/dev/null"]

[users.ann]
groups = ["adm"]

[disks]
logs = "64M"

[files]
"/etc/motd" = { source = "motd", mode = "0644" }
"""


def write_recipe(directory: Path, text: str = RECIPE) -> Path:
    directory.mkdir()
    (directory / "template.toml").write_text(text)
    (directory / "motd").write_text("welcome\n")
    return directory


def test_a_recipe_of_ones_own_built_on_it(home: Cat, tmp_path: Path) -> None:
    home("template", "build", str(write_recipe(tmp_path / "mine")), timeout=BUILD)
    home("vm", "run", "web", "--template", "mine", timeout=BOOT)
    script = "cat /etc/mark /etc/motd; hello; id -nG ann; grep -c ' /disks/logs ' /proc/mounts"
    said = home.exec("web", script).splitlines()
    assert said == ["from a command", "welcome", "Hello, world!", "ann adm", "1"]
    shown = json.loads(home("template", "show", "mine", "--json"))
    names = {package["name"] for package in shown["image"]["packages"]}
    assert {"hello", "systemd", "linux-image-amd64"} <= names or os.uname().machine != "x86_64"
    assert shown["own"] and shown["vms"] == ["web"]
    home.fails("template-in-use", "template", "delete", "--yes", "mine", "--json")
    home("vm", "delete", "--force", "web")
    home("template", "delete", "--yes", "mine")
    assert "mine" not in home("template", "list")


def test_a_template_of_a_vm_and_a_file(home: Cat, tmp_path: Path) -> None:
    sudo(home, "deb", "echo travelled > /root/travel; sync")
    home("vm", "export", "deb", str(tmp_path / "deb.appcat"), timeout=BOOT)
    home("template", "import", str(tmp_path / "deb.appcat"), "--name", "back")
    home("vm", "run", "back", "--template", "back", timeout=BOOT)
    assert sudo(home, "back", "cat /root/travel; hostname").split() == ["travelled", "back"]
    home("vm", "delete", "--force", "back")
    home("template", "delete", "--yes", "back")


def test_a_bill_of_materials(home: Cat) -> None:
    document = json.loads(home("template", "show", "--sbom", "debian"))
    licences = {package["name"]: package["licenseDeclared"] for package in document["packages"]}
    assert "GPL-2.0-or-later" in licences["systemd"] or "LGPL" in licences["systemd"]
    known = [name for name, licence in licences.items() if licence != "NOASSERTION"]
    assert len(known) > len(licences) * 0.8, sorted(set(licences) - set(known))


# --- faults


def apart(directory: Path, cache: Path) -> Cat:
    """A cache of its own with the packages and the image of debian, so that only what is new has to be built."""
    shutil.copytree(cache / "packages", directory / "cache" / "packages")
    shutil.copytree(
        cache / "images", directory / "cache" / "images", symlinks=True, ignore=shutil.ignore_patterns("staging")
    )
    return Cat(directory / "home", directory / "cache")


def nothing_left(cat: Cat) -> None:
    staging = cat.cache / "images" / "staging"
    assert not staging.exists() or list(staging.iterdir()) == []
    own = cat.home / "templates"
    assert [path.name for path in own.glob(".*")] == [] if own.exists() else True
    for stored in (store := ImageStore(cat.cache / "images")).all():
        store.verify(stored.image.digest)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ('commands = ["echo', 'commands = ["echo no >&2; false", "echo'),
        ('install = ["hello"]', 'install = ["hello-that-is-not"]'),
    ],
    ids=["a command fails", "a package is missing"],
)
def test_a_build_that_fails_says_why_and_leaves_nothing(
    home: Cat, cache: Path, tmp_path: Path, change: str, told: str
) -> None:
    cat = apart(tmp_path, cache)
    text = RECIPE.replace(change, told)
    assert text != RECIPE
    directory = write_recipe(tmp_path / "recipe", text)
    done = cat.try_("template", "build", str(directory), timeout=BUILD)
    assert done.returncode == 7, done.stderr
    assert "Traceback" not in done.stderr
    assert re.search("command 1 of the template failed|no package hello-that-is-not", done.stderr), done.stderr
    nothing_left(cat)
    cat.clean_up()


def test_a_build_that_is_killed_leaves_no_machine_and_can_be_repeated(home: Cat, cache: Path, tmp_path: Path) -> None:
    cat = apart(tmp_path, cache)
    directory = write_recipe(tmp_path / "recipe")
    command = cat.popen("template", "build", str(directory))

    def machines() -> list[int]:
        said = subprocess.run(
            ["pgrep", "-f", f"appcat-builder.*{tmp_path}"], capture_output=True, text=True, check=False
        )
        return [int(pid) for pid in said.stdout.split()]

    wait_until(lambda: bool(machines()), timeout=300, what="the builder machine")
    time.sleep(3)
    command.send_signal(signal.SIGKILL)
    command.communicate()
    wait_until(lambda: not machines(), timeout=30, what="the end of the builder machine")
    cat("template", "build", str(directory), timeout=BUILD)
    nothing_left(cat)
    cat.clean_up()
