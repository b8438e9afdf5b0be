from __future__ import annotations

import hashlib
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from appcat.errors import Broken, InsufficientSpace, NotFound
from appcat.model.image import Image, Package, SshServer, image_from_json, image_to_json
from appcat.model.vm import Arch
from appcat.store import images
from appcat.store.images import ImageStore, describe_file

FINGERPRINT = "f" * 64


def make(directory: Path, content: str = "content") -> Image:
    """Files of a small image in ``directory``, and its manifest."""
    directory.mkdir(parents=True)
    for name in (images.KERNEL, images.INITRAMFS, images.VMLINUX, images.ROOTFS):
        (directory / name).write_text(f"{content} of {name}")
    kernel, initramfs, vmlinux, rootfs = (
        describe_file(directory / name) for name in (images.KERNEL, images.INITRAMFS, images.VMLINUX, images.ROOTFS)
    )
    return Image(
        template="tiny",
        digest=hashlib.sha256(content.encode()).hexdigest(),
        arch=Arch.X86_64,
        kernel=kernel,
        initramfs=initramfs,
        vmlinux=vmlinux,
        rootfs=rootfs,
        arguments="quiet",
        login="root",
        ssh=SshServer.DROPBEAR,
        cpus=1,
        memory=256 << 20,
        packages=(Package("busybox", "1.35", "00"),),
    )


def build(store: ImageStore, content: str = "content") -> Image:
    with store.building(FINGERPRINT) as staging:
        image = make(staging / "image", content)
        store.publish(image, staging / "image", FINGERPRINT)
    return image


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "images"


@pytest.fixture
def cache(root: Path) -> ImageStore:
    return ImageStore(root)


def test_a_manifest_survives_its_file(tmp_path: Path) -> None:
    image = make(tmp_path / "image")
    assert image_from_json(image_to_json(image)) == image
    assert image.compressed_size == image.kernel.size + image.initramfs.size


def test_what_was_built_is_found(cache: ImageStore) -> None:
    assert cache.find(FINGERPRINT) is None
    image = build(cache)
    found = cache.find(FINGERPRINT)
    assert found is not None
    assert found.image == image
    assert found.vmlinux.read_text() == "content of vmlinux"
    assert [stored.image for stored in cache.all()] == [image]


def test_an_unknown_image(cache: ImageStore) -> None:
    with pytest.raises(NotFound):
        cache.get("0" * 64)


@pytest.mark.parametrize("name", [images.KERNEL, images.INITRAMFS, images.VMLINUX, images.ROOTFS])
def test_a_file_that_is_short_or_gone_is_not_trusted(cache: ImageStore, root: Path, name: str) -> None:
    image = build(cache)
    (root / image.digest / name).write_text("short")
    with pytest.raises(Broken, match=name):
        cache.get(image.digest)
    (root / image.digest / name).unlink()
    assert cache.find(FINGERPRINT) is None
    assert cache.all() == []


def test_a_changed_byte_is_found_by_verify(cache: ImageStore, root: Path) -> None:
    image = build(cache)
    path = root / image.digest / images.KERNEL
    path.write_text(path.read_text().swapcase())
    cache.get(image.digest)
    with pytest.raises(Broken, match="kernel"):
        cache.verify(image.digest)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 99}', "\0"])
def test_a_damaged_manifest(cache: ImageStore, root: Path, text: str) -> None:
    image = build(cache)
    (root / image.digest / images.MANIFEST).write_text(text)
    with pytest.raises(Broken):
        cache.get(image.digest)
    assert cache.find(FINGERPRINT) is None


def test_building_again_replaces_what_is_damaged(cache: ImageStore, root: Path) -> None:
    image = build(cache)
    path = root / image.digest / images.VMLINUX
    path.write_text(path.read_text().swapcase())
    build(cache)
    assert cache.verify(image.digest).image == image


def test_a_failed_build_leaves_nothing(cache: ImageStore, root: Path) -> None:
    with pytest.raises(InsufficientSpace), cache.building(FINGERPRINT) as staging:
        make(staging / "image")
        raise InsufficientSpace("full")
    assert cache.find(FINGERPRINT) is None
    assert not any((root / "staging").iterdir())


def test_what_a_dead_builder_left_is_swept(cache: ImageStore, root: Path) -> None:
    build(cache)
    leftover = root / "staging" / ("e" * 64)
    make(leftover / "image")
    build(cache)
    assert not leftover.exists()


def _build_slowly(root: Path, counter: Path) -> None:
    store = ImageStore(root)
    with store.building(FINGERPRINT) as staging:
        if store.find(FINGERPRINT):
            return
        with counter.open("a") as file:
            file.write("built\n")
        image = make(staging / "image")
        time.sleep(0.2)
        store.publish(image, staging / "image", FINGERPRINT)


def test_builders_at_once_give_one_build(root: Path, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    context = multiprocessing.get_context("fork")
    builders = [context.Process(target=_build_slowly, args=(root, counter)) for _ in range(5)]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join(30)
    assert counter.read_text() == "built\n"
    assert ImageStore(root).find(FINGERPRINT) is not None


def _die_while_building(root: Path) -> None:
    with ImageStore(root).building(FINGERPRINT) as staging:
        make(staging / "image")
        os._exit(9)


def test_a_builder_that_dies_blocks_nobody(cache: ImageStore, root: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=_die_while_building, args=(root,))
    process.start()
    process.join(30)
    assert (root / "staging" / FINGERPRINT).exists()
    build(cache)
    assert cache.find(FINGERPRINT) is not None
