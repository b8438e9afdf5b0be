"""QEMU's command line, as a pure function of the vm, its wiring and what the host can do.

Every device sits at a stated address, so that the machine a saved state comes from can be built again.

::

    pcie.0  01 NIC 0 (user-mode)   02 serial ports: guest agent, guest program   03 random numbers
            08..0f disks           10.0..10.7 root ports hot0..hot7, empty, for whatever is plugged in later
    -fsdev  share0..7, share0-ro..7-ro: 9p exports without a device yet; their paths are links set before device_add

Sources: qemu-system(1) of 7.2, docs/pcie.txt, docs/specs/vmgenid.txt.
"""

from __future__ import annotations

import json
from pathlib import Path

from appcat.model.host import Accelerator, Host, System
from appcat.model.machine import (
    AGENT_PORT,
    GUEST_PORT,
    HOTPLUG_PORTS,
    IDENTITY_ITEM,
    USER_DNS,
    USER_GUEST,
    USER_HOST,
    USER_NETWORK,
    Boot,
    Wiring,
)
from appcat.model.port import PortForward
from appcat.model.size import MIB
from appcat.model.vm import Arch, Vm

# With 64 a boot took 6.2 s, with the default 5.2 s (medians of 4, noisy): flushes mean translating again.
TRANSLATION_CACHE_MIB = 256
FIRST_DISK_SLOT = 0x08
FIRST_PORT_SLOT = 0x10
FUNCTIONS = 8

Args = list[str]


def argv(vm: Vm, boot: Boot, wiring: Wiring, host: Host) -> Args:
    """The whole command line for a cold start of ``vm``."""
    return [
        host.qemu.binary,
        *base_args(vm, host),
        *machine_args(vm, host),
        *memory_args(vm, host),
        *boot_args(boot, wiring),
        *monitor_args(wiring),
        *console_args(wiring),
        *net_args(vm),
        *port_args(wiring),
        *disk_args(wiring),
        *hotplug_args(),
        *share_args(wiring),
        *identity_args(vm),
    ]


def base_args(vm: Vm, host: Host) -> Args:
    """Who this is, nothing by default, and no way out of the process."""
    args = ["-name", f"guest={vm.name},debug-threads=on", "-uuid", vm.uuid]
    args += ["-nodefaults", "-no-user-config", "-display", "none"]
    if host.system is System.LINUX:
        args += ["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]
    return args


def machine_args(vm: Vm, host: Host) -> Args:
    """Machine type, accelerator, processors and clock."""
    extra = ",vmport=off,sata=off,smbus=off" if vm.machine.arch is Arch.X86_64 else ",gic-version=max"
    return [
        "-machine",
        f"{vm.machine.type},memory-backend=mem{extra}",
        "-accel",
        _accelerator(host.accelerator),
        "-cpu",
        cpu_model(vm.machine.arch, host.accelerator),
        "-smp",
        f"cpus={vm.cpus}",
        "-rtc",
        "base=utc,clock=host",
    ]


def cpu_model(arch: Arch, accelerator: Accelerator) -> str:
    """The CPU the guest sees: the host's own under hardware acceleration, else all that translation offers."""
    if accelerator is not Accelerator.TCG:
        return "host"
    # Five-level page tables would make every translated page walk longer.
    return "max,la57=off" if arch is Arch.X86_64 else "max"


def memory_args(vm: Vm, host: Host) -> Args:
    """Guest memory as a shared file without a name (Linux), or anonymous memory where no such file exists."""
    size = f"size={vm.memory // MIB}M"
    backend = "memory-backend-memfd,id=mem,share=on" if host.system is System.LINUX else "memory-backend-ram,id=mem"
    return ["-m", size, "-object", f"{backend},{size}"]


def boot_args(boot: Boot, wiring: Wiring) -> Args:
    """Kernel, initial file system, and the identity that the guest takes before anyone can reach it."""
    return [
        "-kernel",
        str(boot.kernel),
        "-initrd",
        str(boot.initramfs),
        "-append",
        boot.arguments,
        "-fw_cfg",
        f"name={IDENTITY_ITEM},file={escape(wiring.identity)}",
    ]


def monitor_args(wiring: Wiring) -> Args:
    """Three monitors, since each serves one client at a time: commands, looks, the keeper's event stream."""
    sockets = (("monitor", wiring.monitor), ("status", wiring.status), ("events", wiring.events))
    return [
        arg
        for name, path in sockets
        for arg in ("-chardev", _listening(name, path), "-mon", f"chardev={name},mode=control")
    ]


def console_args(wiring: Wiring) -> Args:
    """The serial line: to whoever is attached, and always to the log."""
    log = f",logfile={escape(wiring.console_log)},logappend=on"
    return ["-chardev", _listening("console", wiring.console) + log, "-serial", "chardev:console"]


def net_args(vm: Vm) -> Args:
    """NIC 0, always user-mode, with every host port the vm owns."""
    forwards = "".join(f",hostfwd={_forward(forward)}" for forward in vm.forwards)
    network = f"user,id=net0,net={USER_NETWORK},host={USER_HOST},dns={USER_DNS},dhcpstart={USER_GUEST}{forwards}"
    device = f"virtio-net-pci,id=nic0,netdev=net0,mac={vm.nics[0].mac},romfile=,bus=pcie.0,addr=0x1"
    return ["-netdev", network, "-device", device]


def port_args(wiring: Wiring) -> Args:
    """Serial ports for the guest agent and for the guest program."""
    args = ["-device", "virtio-serial-pci,id=ports,bus=pcie.0,addr=0x2"]
    for number, (name, path, port) in enumerate(
        (("agent", wiring.agent, AGENT_PORT), ("guest", wiring.guest, GUEST_PORT)), start=1
    ):
        args += ["-chardev", _listening(name, path)]
        args += ["-device", f"virtserialport,bus=ports.0,nr={number},chardev={name},name={port}"]
    return args


def disk_args(wiring: Wiring) -> Args:
    """The vm's disks; what the guest discards is given back to the host."""
    args: Args = []
    for number, path in enumerate(wiring.disks):
        args += ["-blockdev", json.dumps(disk_node(f"disk{number}", path), separators=(",", ":"))]
        address = f"bus=pcie.0,addr={FIRST_DISK_SLOT + number:#x}"
        args += ["-device", f"virtio-blk-pci,id=disk{number}-device,drive=disk{number},serial=disk{number},{address}"]
    return args


def disk_node(name: str, path: Path) -> dict[str, object]:
    """A qcow2 file as QEMU's block layer wants it (``BlockdevOptions`` of the QMP reference)."""
    file = {"driver": "file", "filename": str(path), "discard": "unmap"}
    return {"node-name": name, "driver": "qcow2", "discard": "unmap", "detect-zeroes": "unmap", "file": file}


def hotplug_args() -> Args:
    """Empty PCIe root ports, eight to a slot: what is plugged in later needs one each."""
    args: Args = []
    for number in range(HOTPLUG_PORTS):
        slot, function = divmod(number, FUNCTIONS)
        address = f"addr={FIRST_PORT_SLOT + slot:#x}.{function}" + (",multifunction=on" if function == 0 else "")
        args += ["-device", f"pcie-root-port,id=hot{number},bus=pcie.0,chassis={number + 1},{address}"]
    return args


def share_args(wiring: Wiring) -> Args:
    """9p exports to be, writable and read-only: they can only be declared here, and cost nothing until used."""
    return [
        arg
        for number, path in enumerate(wiring.shares)
        for suffix, mode in (("", ""), ("-ro", ",readonly=on"))
        for arg in (
            "-fsdev",
            f"local,id=share{number}{suffix},path={escape(path)},security_model=none,multidevs=remap{mode}",
        )
    ]


def identity_args(vm: Vm) -> Args:
    """Random numbers, and the generation id that makes a cloned kernel reseed (x86 only in QEMU 7.2)."""
    args = ["-device", "virtio-rng-pci,id=rng,bus=pcie.0,addr=0x3"]
    if vm.machine.arch is Arch.X86_64:
        args += ["-device", "vmgenid,id=generation,guid=auto"]
    return args


def escape(value: Path | str) -> str:
    """A value inside QEMU's comma-separated options."""
    return str(value).replace(",", ",,")


def _accelerator(accelerator: Accelerator) -> str:
    return f"tcg,tb-size={TRANSLATION_CACHE_MIB}" if accelerator is Accelerator.TCG else str(accelerator)


def _listening(name: str, path: Path) -> str:
    return f"socket,id={name},path={escape(path)},server=on,wait=off"


def _forward(forward: PortForward) -> str:
    return f"{forward.protocol}:{forward.address}:{forward.host}-{USER_GUEST}:{forward.guest}"
