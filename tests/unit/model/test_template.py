from __future__ import annotations

import pytest

from appcat.errors import InvalidInput
from appcat.model.image import Root, SshServer
from appcat.model.size import GIB, MIB
from appcat.model.template import LocalFile, Recipe, User, inherit, localized, read_recipe_text
from appcat.model.template import parse_recipe as parse
from appcat.model.vm import Arch


def parse_recipe(text: str, source: str) -> Recipe:
    return parse(read_recipe_text(text, source), source)


RECIPE = """
name = "tiny"
description = "a test"
login = "root"
ssh = "dropbear"
guest = "/usr/sbin/appcat-guest"
limit = "13M"

[defaults]
cpus = 2
memory = "256M"

[kernel]
arguments = ["quiet"]
boot = ["virtio_pci"]

[kernel.x86_64]
package = "linux-image-amd64"
arguments = ["console=ttyS0"]

[packages]
busybox-static = ["/usr/bin/busybox"]

[links]
"/init" = "/usr/bin/busybox"

[files]
"/etc/passwd" = { source = "passwd", mode = "0644" }
"""


def test_a_recipe() -> None:
    recipe = parse_recipe(RECIPE, "tiny")
    assert (recipe.name, recipe.ssh, recipe.cpus, recipe.memory) == ("tiny", SshServer.DROPBEAR, 2, 256 * MIB)
    assert recipe.limit == 13 * MIB
    assert recipe.kernels[Arch.X86_64].arguments == ("quiet", "console=ttyS0")
    assert recipe.packages == {"busybox-static": ("/usr/bin/busybox",)}
    assert recipe.files == {"/etc/passwd": LocalFile("passwd", 0o644)}
    assert recipe.links == {"/init": "/usr/bin/busybox"}


@pytest.mark.parametrize(
    ("good", "bad", "named"),
    [
        ('name = "tiny"', 'name = "../tiny"', "name"),
        ('name = "tiny"', "", "name"),
        ('name = "tiny"', 'name = "tiny"\nsurprise = 1', "surprise"),
        ('ssh = "dropbear"', 'ssh = "telnet"', "ssh"),
        ("cpus = 2", "cpus = true", "cpus"),
        ("cpus = 2", "cpus = 0", "cpus"),
        ("cpus = 2", "cpus = 2\nthreads = 2", "threads"),
        ('memory = "256M"', 'memory = "1M"', "memory"),
        ('memory = "256M"', "memory = 256", "memory"),
        ('boot = ["virtio_pci"]', 'boot = "virtio_pci"', "boot"),
        ('boot = ["virtio_pci"]', 'boot = ["virtio pci"]', "boot"),
        ("[kernel.x86_64]", "[kernel.sparc]", "sparc"),
        ("[kernel.x86_64]", "[kernel.x86_64]\ncolour = 1", "colour"),
        ('"/usr/bin/busybox"]', '"usr/bin/busybox"]', "packages"),
        ('"/usr/bin/busybox"]', '"/usr/../../etc/shadow"]', "packages"),
        ("busybox-static =", '"busybox static" =', "packages"),
        ('source = "passwd"', 'source = "../passwd"', "files"),
        ('source = "passwd"', 'source = "/etc/passwd"', "files"),
        ('source = "passwd"', 'source = "a//b"', "files"),
        ('mode = "0644"', 'mode = "4755"', "files"),
        ('mode = "0644"', 'mode = "0644", owner = "me"', "files"),
        ('"/etc/passwd" =', '"/etc/../passwd" =', "files"),
    ],
)
def test_what_is_wrong_is_named(good: str, bad: str, named: str) -> None:
    assert good in RECIPE
    with pytest.raises(InvalidInput, match=named) as caught:
        parse_recipe(RECIPE.replace(good, bad, 1), "tiny/template.toml")
    assert "tiny/template.toml" in caught.value.message


def test_not_toml() -> None:
    with pytest.raises(InvalidInput, match="not TOML"):
        parse_recipe("name =", "tiny")


SYSTEM = """
name = "full"
description = "a test"
root = "disk"
size = "4G"
login = "ann"
ssh = "openssh"
guest = "/usr/sbin/appcat-guest"
install = ["systemd-sysv", "sudo"]
commands = ["true"]

[defaults]
cpus = 1
memory = "512M"

[kernel]
modules = ["overlay"]

[kernel.x86_64]
package = "linux-image-amd64"

[users.ann]
groups = ["sudo"]
sudo = true

[services]
enable = ["ssh.service"]
mask = ["apt-daily.timer"]

[files]
"/etc/motd" = { source = "motd", mode = "0644" }
"""


def test_a_recipe_with_a_root_disk() -> None:
    recipe = parse_recipe(SYSTEM, "full")
    assert (recipe.root, recipe.size, recipe.install) == (Root.DISK, 4 * GIB, ("systemd-sysv", "sudo"))
    assert recipe.users == {"ann": User(("sudo",), "/bin/bash", sudo=True)}
    assert (recipe.enable, recipe.mask) == (("ssh.service",), ("apt-daily.timer",))
    assert recipe.commands == ("true",)


@pytest.mark.parametrize(
    ("good", "bad", "named"),
    [
        ('size = "4G"', "", "size"),
        ('size = "4G"', 'size = "100M"', "size"),
        ('install = ["systemd-sysv", "sudo"]', "", "install"),
        ('install = ["systemd-sysv", "sudo"]', 'install = ["sudo -y"]', "install"),
        ('login = "ann"', 'login = "bob"', "bob"),
        ("[users.ann]", '[users."ann smith"]', "users"),
        ("sudo = true", 'sudo = "yes"', "users"),
        ("sudo = true", "sudo = true\nuid = 7", "users"),
        ('enable = ["ssh.service"]', 'enable = ["ssh"]', "enable"),
        ("[services]", "[services]\nstart = []", "start"),
        ('root = "disk"', 'root = "tape"', "root"),
        ('root = "disk"', 'root = "memory"', "size"),
        ('commands = ["true"]', 'applets = "/usr/bin/busybox"', "applets"),
        ('source = "motd"', 'source = "@other/../motd"', "files"),
    ],
)
def test_what_is_wrong_with_a_root_disk_is_named(good: str, bad: str, named: str) -> None:
    assert good in SYSTEM
    with pytest.raises(InvalidInput, match=named):
        parse_recipe(SYSTEM.replace(good, bad, 1), "full/template.toml")


def test_disk_keys_are_not_for_a_root_in_memory() -> None:
    with pytest.raises(InvalidInput, match="install is not for templates whose root is memory"):
        parse_recipe(RECIPE.replace('limit = "13M"', 'install = ["sudo"]'), "tiny")


def test_what_a_recipe_inherits() -> None:
    own = """
name = "mine"
description = "mine"
base = "full"
install = ["nginx"]
commands = ["echo"]
[defaults]
memory = "1G"
[kernel]
modules = ["br_netfilter"]
[users.bob]
[files]
"/etc/motd" = { source = "motd", mode = "0600" }
"/etc/issue" = { source = "issue", mode = "0644" }
"""
    base = localized(read_recipe_text(SYSTEM, "full"), "full")
    recipe = parse(inherit(read_recipe_text(own, "mine"), base), "mine")
    assert (recipe.name, recipe.base, recipe.size, recipe.login) == ("mine", "full", 4 * GIB, "ann")
    assert recipe.install == ("systemd-sysv", "sudo", "nginx")
    assert recipe.commands == ("true", "echo")
    assert (recipe.cpus, recipe.memory) == (1, GIB)
    assert recipe.kernels[Arch.X86_64].modules == ("overlay", "br_netfilter")
    assert set(recipe.users) == {"ann", "bob"}
    assert recipe.files == {"/etc/motd": LocalFile("motd", 0o600), "/etc/issue": LocalFile("issue", 0o644)}


def test_the_files_of_a_base_are_its_own() -> None:
    base = localized(read_recipe_text(SYSTEM, "full"), "full")
    assert base["files"]["/etc/motd"]["source"] == "@full/motd"
    assert localized(base, "other") == base


def test_ports_and_a_certificate() -> None:
    recipe = parse_recipe('ports = [80, 2376, 80]\ncertificate = "/etc/tls"\n' + RECIPE, "tiny")
    assert (recipe.ports, recipe.certificate) == ((80, 2376), "/etc/tls")


@pytest.mark.parametrize("line", ["ports = [22]", "ports = [0]", "ports = [70000]", 'ports = ["80"]', "ports = [true]",
                                  "ports = 80", 'certificate = "tls"', 'certificate = "/etc/../tls"'])  # fmt: skip
def test_ports_and_certificates_that_cannot_be(line: str) -> None:
    with pytest.raises(InvalidInput, match=line.split()[0]):
        parse_recipe(f"{line}\n{RECIPE}", "tiny")
