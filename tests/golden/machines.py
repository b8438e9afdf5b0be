"""Representative vms, each with a host it runs on; all of it plain data."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from appcat.model.host import Accelerator, Host, Qemu, System
from appcat.model.machine import SHARE_SLOTS, Boot, HubPort, Purpose, SwitchPort, TapPort, Wiring, pinned_machine
from appcat.model.network import Attachment
from appcat.model.port import PortForward, parse_forward
from appcat.model.size import GIB, MIB
from appcat.model.vm import Arch, Disk, Nic, TemplateRef, Vm
from appcat.qemu.argv import argv
from appcat.store.layout import RuntimePaths, VmPaths


@dataclass(frozen=True)
class Machine:
    """A vm on a host. ``home`` holds its files, ``runtime`` its sockets, ``image`` kernel and initramfs."""

    vm: Vm
    host: Host
    home: Path
    runtime: Path
    image: Path
    purpose: Purpose = Purpose.SOLO
    memory: Path | None = None
    plugged: dict[str, str] = field(default_factory=dict)
    ports: tuple[SwitchPort, ...] = ()
    internet: bool = True
    may_all: bool = True

    @property
    def argv(self) -> list[str]:
        return argv(self.vm, self.boot, self.wiring, self.host)

    @property
    def boot(self) -> Boot:
        console = "ttyS0" if self.vm.machine.arch is Arch.X86_64 else "ttyAMA0"
        return Boot(self.image / "vmlinux", self.image / "rootfs", f"quiet panic=-1 console={console}")

    @property
    def wiring(self) -> Wiring:
        files, sockets = VmPaths(self.home), RuntimePaths(self.runtime)
        return Wiring(
            monitor=sockets.monitor,
            status=sockets.status,
            events=sockets.events,
            agent=sockets.agent,
            guest=sockets.guest,
            console=sockets.console,
            console_log=files.console_log,
            identity=files.identity,
            shares=tuple(sockets.share(slot) for slot in range(SHARE_SLOTS)),
            disks=tuple(files.disks / disk.file for disk in self.vm.disks),
            purpose=self.purpose,
            memory=self.memory,
            plugged=self.plugged,
            ports=self.ports,
            internet=self.internet,
            forwards=self.forwards,
        )

    @property
    def forwards(self) -> tuple[PortForward, ...]:
        """What leads into it from the start; low ports are for somebody who ``may_all``."""
        if self.purpose is not Purpose.SOLO:
            return ()
        return (*self.vm.forwards(), *(self.vm.extras() if self.may_all else ()))


def _vm(arch: Arch) -> Vm:
    return Vm(
        name="web",
        uuid="5f0a1c52-93a1-4f58-8d5c-0d3b1c6f7a10",
        created="2026-11-23T12:00:00Z",
        template=TemplateRef("pico", "0123456789abcdef"),
        machine=pinned_machine(arch),
        cpus=1,
        memory=256 * MIB,
        machine_id="0123456789abcdef0123456789abcdef",
        login="root",
        ssh_port=20022,
        nics=(Nic("52:54:00:12:34:56"),),
    )


def _host(system: System, arch: Arch, accelerator: Accelerator) -> Host:
    directory = "/usr/bin" if system is System.LINUX else "/opt/homebrew/bin"
    return Host(system, arch, Qemu(f"{directory}/qemu-system-{arch}", "7.2.22"), accelerator)


def _on_linux(arch: Arch, accelerator: Accelerator) -> Machine:
    return Machine(
        vm=_vm(arch),
        host=_host(System.LINUX, arch, accelerator),
        home=Path("/home/ann/.local/share/appcat/vms/web"),
        runtime=Path("/tmp/appcat-1000/0a1b2c3d/5f0a1c5293a1"),
        image=Path("/home/ann/.cache/appcat/images/0123456789abcdef"),
    )


def _on_macos(arch: Arch) -> Machine:
    return Machine(
        vm=_vm(arch),
        host=_host(System.MACOS, arch, Accelerator.HVF),
        home=Path("/Users/ann/Library/Application Support/appcat/vms/web"),
        runtime=Path("/tmp/appcat-501/0a1b2c3d/5f0a1c5293a1"),
        image=Path("/Users/ann/Library/Caches/appcat/images/0123456789abcdef"),
    )


def _with_everything(plain: Machine) -> Machine:
    """Disks, forwards of both protocols, several processors, and paths that QEMU's options must not trip over."""
    forwards = ("8080:80", "0.0.0.0:8443:443/tcp", "127.0.0.2:5353:53/udp", "80", "2376")
    vm = dataclasses.replace(
        plain.vm,
        cpus=4,
        memory=2 * GIB,
        disks=(Disk("data", "data.qcow2", 2 * GIB, 0), Disk("more", "more, and more.qcow2", GIB, 3)),
        ports=tuple(parse_forward(text) for text in forwards),
        address="127.77.3.4",
    )
    odd = Path("/srv/my vms, and=more/appcat")
    return dataclasses.replace(plain, vm=vm, home=odd / "vms" / "web", image=odd / "cache" / "images" / "0123")


def _with_a_base(plain: Machine, purpose: Purpose) -> Machine:
    """With a disk that the source had from power-on and one that had been plugged in."""
    disks = (Disk("data", "data.qcow2", GIB, 0), Disk("late", "late.qcow2", GIB, 1))
    return dataclasses.replace(
        plain,
        vm=dataclasses.replace(plain.vm, disks=() if purpose is Purpose.FOUNT else disks),
        purpose=purpose,
        memory=Path("/dev/shm/appcat-1000/0a1b2c3d/00112233aabbccdd"),
        plugged={} if purpose is Purpose.FOUNT else {"late": "hot2"},
    )


NETWORKS = (
    Attachment("lab", "52:54:00:00:00:01", "10.77.1.10", 0),
    Attachment("storage", "52:54:00:00:00:02", "10.77.2.10", 2),
)


def _on_a_bridge(plain: Machine) -> Machine:
    """On two networks, having left a third that was in between; the first descriptors are locks."""
    vm = dataclasses.replace(plain.vm, networks=NETWORKS)
    return dataclasses.replace(plain, vm=vm, ports=(TapPort(5), TapPort(8)))


def _on_the_hub(plain: Machine) -> Machine:
    """On the same two networks, which lead nowhere else."""
    switch = plain.runtime.parent / "switch"
    ports = tuple(
        HubPort(switch / f"5f0a1c5293a1-{there.slot}.port", switch / f"5f0a1c5293a1-{there.slot}.hub", 1500)
        for there in NETWORKS
    )
    vm = dataclasses.replace(plain.vm, networks=NETWORKS)
    return dataclasses.replace(plain, vm=vm, ports=ports, internet=False)


MACHINES = {
    "linux-x86_64-tcg-minimal": _on_linux(Arch.X86_64, Accelerator.TCG),
    "linux-x86_64-kvm-everything": _with_everything(_on_linux(Arch.X86_64, Accelerator.KVM)),
    "linux-aarch64-kvm": _on_linux(Arch.AARCH64, Accelerator.KVM),
    "macos-aarch64-hvf": _on_macos(Arch.AARCH64),
    "macos-x86_64-hvf": _on_macos(Arch.X86_64),
    "linux-x86_64-tcg-fount": _with_a_base(_on_linux(Arch.X86_64, Accelerator.TCG), Purpose.FOUNT),
    "linux-x86_64-tcg-receiver": _with_a_base(_on_linux(Arch.X86_64, Accelerator.TCG), Purpose.RECEIVER),
    "linux-x86_64-tcg-clone": _with_a_base(_on_linux(Arch.X86_64, Accelerator.TCG), Purpose.CLONE),
    "linux-x86_64-kvm-bridge": _on_a_bridge(_on_linux(Arch.X86_64, Accelerator.KVM)),
    "linux-x86_64-tcg-hub": _on_the_hub(_on_linux(Arch.X86_64, Accelerator.TCG)),
    "linux-x86_64-tcg-bridge-clone": _on_a_bridge(_with_a_base(_on_linux(Arch.X86_64, Accelerator.TCG), Purpose.CLONE)),
    "macos-aarch64-hvf-hub": _on_the_hub(_on_macos(Arch.AARCH64)),
    "macos-aarch64-hvf-clone": _with_a_base(_on_macos(Arch.AARCH64), Purpose.CLONE),
}
