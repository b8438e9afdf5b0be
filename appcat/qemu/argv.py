"""QEMU's command line, as a pure function of the vm, its wiring and what the host can do.

Every device sits at a stated address, so that the machine a saved state comes from can be built again.

::

    pcie.0  01 NIC 0 (user-mode)   02 serial ports: guest agent, guest program   03 random numbers
            08..0f disks           10.0..10.7 root ports hot0..hot7, empty, for whatever is plugged in later
            11 root port "reclaim" with a balloon that reports free pages; empty in clones
    hot7..hot4  NICs 1..4 on private networks, each at its slot's port; disks and folders take the lowest free one
    -fsdev  share0..7, share0-ro..7-ro: 9p exports without a device yet; their paths are links set before device_add

Sources: qemu-system(1) of 7.2, docs/pcie.txt, docs/specs/vmgenid.txt.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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
    HubPort,
    Purpose,
    SwitchPort,
    TapPort,
    Wiring,
    nic_port,
)
from appcat.model.network import Attachment
from appcat.model.port import PortForward
from appcat.model.size import MIB
from appcat.model.vm import Arch, Disk, Vm

# QEMU's default grows with the host's memory; a cache too small is flushed, and all is translated again.
TRANSLATION_CACHE_MIB = 256
FIRST_DISK_SLOT = 0x08
FIRST_PORT_SLOT = 0x10
RECLAIM_SLOT = 0x11
BALLOON = "balloon"
RECLAIM_PORT = "reclaim"
FUNCTIONS = 8

Args = list[str]


def argv(vm: Vm, boot: Boot, wiring: Wiring, host: Host) -> Args:
    """The whole command line for one run of ``vm``; what for, ``wiring`` says."""
    return [
        host.qemu.binary,
        *base_args(vm, host),
        *machine_args(vm, host),
        *memory_args(vm, wiring, host),
        *boot_args(boot, wiring),
        *monitor_args(wiring),
        *console_args(wiring),
        *net_args(vm, wiring),
        *port_args(wiring),
        *hotplug_args(),
        *segment_args(vm, wiring),
        *disk_args(vm, wiring),
        *reclaim_args(wiring.purpose),
        *share_args(wiring),
        *identity_args(vm),
        *state_args(wiring.purpose),
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


def memory_args(vm: Vm, wiring: Wiring, host: Host) -> Args:
    """Guest memory: a base's file, a shared file without a name (Linux), or anonymous memory without such files.

    A clone maps its base privately: what it writes is its own, what it never writes all clones share.
    """
    size = f"size={vm.memory // MIB}M"
    if wiring.memory:
        share = "off" if wiring.purpose is Purpose.CLONE else "on"
        return [
            "-m",
            size,
            "-object",
            f"memory-backend-file,id=mem,mem-path={escape(wiring.memory)},share={share},{size}",
        ]
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


def net_args(vm: Vm, wiring: Wiring) -> Args:
    """NIC 0, always user-mode, with the host ports that lead into it; a clone gets them once it has its identity.

    Restricted, it lets the guest talk to nobody, but for those who come in through a host port.
    """
    rules = "".join(f",hostfwd={forward_rule(forward)}" for forward in wiring.forwards)
    restrict = "" if wiring.internet else ",restrict=on"
    network = f"user,id=net0,net={USER_NETWORK},host={USER_HOST},dns={USER_DNS},dhcpstart={USER_GUEST}{restrict}{rules}"
    device = f"virtio-net-pci,id=nic0,netdev=net0,mac={vm.nics[0].mac},romfile=,bus=pcie.0,addr=0x1"
    return ["-netdev", network, "-device", device]


def segment_args(vm: Vm, wiring: Wiring) -> Args:
    """A network card for each private network the vm is on, as if it had been plugged in while the machine ran."""
    args: Args = []
    for there, port in zip(vm.networks, wiring.ports, strict=True):
        args += ["-netdev", _json(segment_netdev(there.slot, port))]
        args += ["-device", _device(segment_device(there, port))]
    return args


def segment_netdev(slot: int, port: SwitchPort, given: str = "") -> dict[str, Any]:
    """What a card is wired to, as ``netdev_add`` wants it (``Netdev`` of the QMP reference).

    ``given`` is the name under which a running QEMU was handed the tap's descriptor (``getfd``).
    """
    match port:
        case TapPort():
            return {"type": "tap", "id": segment_id(slot), "fd": given or str(port.descriptor)}
        case HubPort():
            local = {"type": "unix", "path": str(port.local)}
            remote = {"type": "unix", "path": str(port.hub)}
            return {"type": "dgram", "id": segment_id(slot), "local": local, "remote": remote}


def segment_device(there: Attachment, port: SwitchPort) -> dict[str, Any]:
    """The network card, at the root port of its slot, as ``device_add`` wants it."""
    device = {
        "driver": "virtio-net-pci",
        "id": segment_card(there.slot),
        "netdev": segment_id(there.slot),
        "mac": there.mac,
        "romfile": "",
        "bus": nic_port(there.slot),
    }
    return {**device, "host_mtu": port.mtu} if isinstance(port, HubPort) else device


def segment_id(slot: int) -> str:
    """What the near end of a segment is called in QEMU."""
    return f"seg{slot}"


def segment_card(slot: int) -> str:
    """What the network card in this slot is called in QEMU."""
    return f"nic{slot + 1}"


def port_args(wiring: Wiring) -> Args:
    """Serial ports for the guest agent and for the guest program."""
    args = ["-device", "virtio-serial-pci,id=ports,bus=pcie.0,addr=0x2"]
    for number, (name, path, port) in enumerate(
        (("agent", wiring.agent, AGENT_PORT), ("guest", wiring.guest, GUEST_PORT)), start=1
    ):
        args += ["-chardev", _listening(name, path)]
        args += ["-device", f"virtserialport,bus=ports.0,nr={number},chardev={name},name={port}"]
    return args


def disk_args(vm: Vm, wiring: Wiring) -> Args:
    """The vm's disks, each in the slot of its own; what the guest discards is given back to the host."""
    args: Args = []
    for disk, path in zip(vm.disks, wiring.disks, strict=True):
        node = stand_in_node(disk) if wiring.purpose is Purpose.RECEIVER else disk_node(disk, path)
        args += ["-blockdev", _json(node)]
        device = {**disk_device(disk), **_disk_place(disk, wiring)}
        args += ["-device", _device(device)]
    return args


def _disk_place(disk: Disk, wiring: Wiring) -> dict[str, str]:
    if port := wiring.plugged.get(disk.name):
        return {"bus": port}
    return {"bus": "pcie.0", "addr": f"{FIRST_DISK_SLOT + disk.slot:#x}"}


def stand_in_node(disk: Disk) -> dict[str, Any]:
    """A disk that holds nothing, for a machine that never runs."""
    return {"node-name": disk_id(disk.name), "driver": "null-co", "size": disk.size}


def disk_node(disk: Disk, path: Path) -> dict[str, Any]:
    """A qcow2 file as QEMU's block layer wants it (``BlockdevOptions`` of the QMP reference)."""
    file = {"driver": "file", "filename": str(path), "discard": "unmap"}
    shared = {"driver": "qcow2", "discard": "unmap", "detect-zeroes": "unmap"}
    return {"node-name": disk_id(disk.name), **shared, "file": file}


def disk_device(disk: Disk) -> dict[str, Any]:
    """The device in front of it, but for where it is plugged in."""
    return {
        "driver": "virtio-blk-pci",
        "id": f"{disk_id(disk.name)}-device",
        "drive": disk_id(disk.name),
        "serial": disk.name,
    }


def disk_id(name: str) -> str:
    """What a disk's node is called in QEMU."""
    return f"disk-{name}"


def hotplug_args() -> Args:
    """Empty PCIe root ports, eight to a slot: what is plugged in later needs one each."""
    args: Args = []
    for number in range(HOTPLUG_PORTS):
        slot, function = divmod(number, FUNCTIONS)
        address = f"addr={FIRST_PORT_SLOT + slot:#x}.{function}" + (",multifunction=on" if function == 0 else "")
        args += ["-device", f"pcie-root-port,id=hot{number},bus=pcie.0,chassis={number + 1},{address}"]
    return args


def reclaim_args(purpose: Purpose) -> Args:
    """A balloon that only reports free pages, so that an idle guest gives memory back.

    On a port of its own, because it is unplugged before a freeze and no clone has one: on memory that clones map
    privately, giving pages back would change the file under all of them.
    """
    port = f"pcie-root-port,id={RECLAIM_PORT},bus=pcie.0,chassis={HOTPLUG_PORTS + 1},addr={RECLAIM_SLOT:#x}"
    balloon = _device(reclaim_device())
    return ["-device", port, *(["-device", balloon] if purpose is Purpose.SOLO else [])]


def reclaim_device() -> dict[str, Any]:
    """The balloon and where it sits, as ``device_add`` wants it."""
    return {"driver": "virtio-balloon-pci", "id": BALLOON, "bus": RECLAIM_PORT, "free-page-reporting": True}


def state_args(purpose: Purpose) -> Args:
    """A machine that takes a state over: where from is said later, and it does not run before it is told to."""
    return ["-incoming", "defer", "-S"] if purpose.incoming else []


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


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"))


def _device(properties: dict[str, Any]) -> str:
    """``device_add``'s arguments as ``-device`` wants them."""
    words = {key: "on" if value is True else value for key, value in properties.items() if key != "driver"}
    return ",".join([properties["driver"], *(f"{key}={value}" for key, value in words.items())])


def _accelerator(accelerator: Accelerator) -> str:
    return f"tcg,tb-size={TRANSLATION_CACHE_MIB}" if accelerator is Accelerator.TCG else str(accelerator)


def _listening(name: str, path: Path) -> str:
    return f"socket,id={name},path={escape(path)},server=on,wait=off"


def forward_rule(forward: PortForward) -> str:
    """A host forward as user-mode networking writes it, on the command line and in the monitor."""
    return f"{forward.protocol}:{forward.address}:{forward.host}-{USER_GUEST}:{forward.guest}"
