from __future__ import annotations

import pytest

from appcat.errors import InvalidInput
from appcat.model.image import SshServer
from appcat.model.size import MIB
from appcat.model.template import LocalFile, parse_recipe
from appcat.model.vm import Arch

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
