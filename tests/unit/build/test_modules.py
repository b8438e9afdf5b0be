from __future__ import annotations

import lzma
from pathlib import Path

import pytest

from appcat.build.modules import Modules, modules_alias, modules_dep
from appcat.errors import BuildError
from tests.unit.build.elf import module

# What each module says of itself in Debian's kernel 6.1, shortened.
DEPENDS = {
    "virtio": "",
    "virtio_ring": "virtio",
    "virtio_pci": "virtio_ring,virtio",
    "net_failover": "failover",
    "failover": "",
    "virtio-rng": "virtio,virtio_ring",
    "virtio_net": "virtio_ring,virtio,net_failover",
    "netfs": "",
    "fscache": "netfs",
    "9p": "9pnet,fscache,netfs",
    "9pnet": "",
}


@pytest.fixture
def modules(tmp_path: Path) -> Modules:
    directory = tmp_path / "6.1.0-test"
    (directory / "kernel" / "drivers").mkdir(parents=True)
    for name, depends in DEPENDS.items():
        alias = f"fs-{name}" if name == "9p" else name.upper()
        data = module({"depends": depends, "alias": alias})
        (directory / "kernel" / "drivers" / f"{name}.ko").write_bytes(data)
    (directory / "modules.builtin").write_text("kernel/fs/proc.ko\nkernel/drivers/vmgenid.ko\n")
    return Modules(directory)


def test_each_comes_after_what_it_needs(modules: Modules) -> None:
    order = list(modules.closure(["virtio_net", "9p", "virtio_pci"]))
    assert order.index("virtio") < order.index("virtio_ring") < order.index("virtio_net")
    assert order.index("netfs") < order.index("fscache") < order.index("9p")
    assert order.index("failover") < order.index("net_failover") < order.index("virtio_net")
    assert len(order) == len(set(order))


def test_a_built_in_module_needs_no_file(modules: Modules) -> None:
    assert list(modules.closure(["vmgenid", "9pnet"])) == ["9pnet"]


def test_dash_and_underscore_are_the_same(modules: Modules) -> None:
    assert list(modules.closure(["virtio-rng"])) == list(modules.closure(["virtio_rng"]))


def test_an_unknown_module_is_named(modules: Modules) -> None:
    with pytest.raises(BuildError, match="virtio_nat"):
        modules.closure(["virtio_nat"])


def test_modules_dep_lists_what_is_loaded_first_last(modules: Modules) -> None:
    lines = dict(line.split(":") for line in modules_dep(modules.closure(["9p", "virtio_pci"])).splitlines())
    names = {path.split("/")[-1]: [need.split("/")[-1] for need in needs.split()] for path, needs in lines.items()}
    assert names["9p.ko"] == ["fscache.ko", "netfs.ko", "9pnet.ko"]
    assert names["virtio_pci.ko"] == ["virtio_ring.ko", "virtio.ko"]
    assert names["virtio.ko"] == []


def test_aliases(modules: Modules) -> None:
    assert "alias fs-9p 9p\n" in modules_alias(modules.closure(["9p"]))


def test_a_compressed_module_travels_uncompressed(modules: Modules, tmp_path: Path) -> None:
    directory = tmp_path / "6.1.0-test"
    plain = directory / "kernel" / "drivers" / "netfs.ko"
    data = plain.read_bytes()
    plain.with_suffix(".ko.xz").write_bytes(lzma.compress(data))
    plain.unlink()
    found = Modules(directory).closure(["netfs"])["netfs"]
    assert (found.path, found.data) == ("kernel/drivers/netfs.ko", data)
