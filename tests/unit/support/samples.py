"""Model values that tests start from; each takes the fields it should differ in."""

from __future__ import annotations

import dataclasses
from typing import Any

from appcat.model.image import GUEST_LEVEL, Image, ImageFile, SshServer
from appcat.model.machine import pinned_machine
from appcat.model.network import Attachment, Network
from appcat.model.run import Exit, ExitCause, Run
from appcat.model.size import MIB
from appcat.model.vm import Arch, Nic, TemplateRef, Vm
from appcat.store.boot import boot_id

UUID = "5f0a1c52-93a1-4f58-8d5c-0d3b1c6f7a10"
OTHER_UUID = "c2d2a6b0-1111-4222-8333-444455556666"

_VM = Vm(
    name="web",
    uuid=UUID,
    created="2026-11-23T12:00:00Z",
    template=TemplateRef("pico", "0123456789abcdef" * 4),
    machine=pinned_machine(Arch.X86_64),
    cpus=2,
    memory=256 * MIB,
    machine_id="0123456789abcdef0123456789abcdef",
    login="root",
    ssh_port=20022,
    nics=(Nic("52:54:00:12:34:56"),),
)


def sample_vm(name: str = "web", **changes: Any) -> Vm:
    return dataclasses.replace(_VM, name=name, **changes)


def sample_image(**changes: Any) -> Image:
    file = ImageFile("x", 1, "0" * 64)
    image = Image(
        template="pico",
        digest="ab" * 32,
        arch=Arch.X86_64,
        kernel=file,
        initramfs=file,
        vmlinux=file,
        rootfs=file,
        arguments="",
        login="root",
        ssh=SshServer.DROPBEAR,
        cpus=1,
        memory=64 * MIB,
        packages=(),
        guest=GUEST_LEVEL,
    )
    return dataclasses.replace(image, **changes)


def sample_run(**changes: Any) -> Run:
    run = Run(
        uuid=UUID,
        boot_id=boot_id(),
        started="2026-11-23T12:00:01Z",
        argv=("qemu-system-x86_64", "-uuid", UUID),
        qemu_version="7.2.22",
        accelerator="tcg",
        cpu="max,la57=off",
    )
    return dataclasses.replace(run, **changes)


def sample_network(name: str = "lab", **changes: Any) -> Network:
    return dataclasses.replace(Network(name, "10.77.0.0/24", created="2026-11-23T12:00:00Z"), **changes)


def on(network: str, address: str, slot: int = 0) -> Attachment:
    """A place on a network; its MAC follows from its address."""
    octets = [int(octet) for octet in address.split(".")]
    return Attachment(network, "52:54:" + ":".join(f"{octet:02x}" for octet in octets), address, slot)


def sample_exit(cause: ExitCause) -> Exit:
    return Exit(cause, "for a reason", "2026-11-23T12:00:02Z")
