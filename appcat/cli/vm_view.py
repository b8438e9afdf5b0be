"""Virtual machines as people read them."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from appcat.cli.output import fitted, note, print_table, say
from appcat.model.port import LOOPBACK, Protocol
from appcat.model.shapes import PortInfo, VmDetails, VmInfo
from appcat.model.size import format_size
from appcat.model.status import Status
from appcat.model.vm import LOCAL_NODE

COLUMNS = ["NAME", "STATUS", "TEMPLATE", "CPUS", "MEMORY", "SSH", "PORTS"]
STYLES = {"running": "green", "broken": "red", "unresponsive": "red", "paused": "yellow"}


def print_list(found: list[VmInfo], filtered: int = 0) -> None:
    """A table that fits 80 columns, and below it why a vm is broken. ``filtered`` others were left out."""
    if not found:
        note(f"none of {filtered} vms matches" if filtered else "no vms yet; make one: appcat vm run NAME")
        return
    columns, rows = COLUMNS, [_row(vm) for vm in found]
    if any(vm.get("networks") for vm in found):
        columns = [*COLUMNS[:-1], "IP", COLUMNS[-1]]
        rows = [[*row[:-1], _addresses(vm), row[-1]] for row, vm in zip(rows, found, strict=True)]
    print_table(columns, rows, STYLES, right=["CPUS", "MEMORY"], cut_names=True)
    for vm in found:
        if vm["status"] == Status.BROKEN:
            say(fitted(f"{vm['name']}: {vm['detail']}", sys.stdout, 2))


def _row(vm: VmInfo) -> list[str]:
    status = f"busy: {vm['detail']}" if vm["status"] == Status.BUSY else vm["status"]
    if "uuid" not in vm:
        return [vm["name"], status, "", "", "", "", ""]
    ports = " ".join(dict.fromkeys(_forward(port) for port in vm["ports"]))
    return [
        vm["name"],
        status,
        vm["template"],
        str(vm["cpus"]),
        format_size(vm["memory"]),
        vm.get("address") or str(vm["ssh"]["port"]),
        ports,
    ]


def _addresses(vm: VmInfo) -> str:
    """On its networks: below each other for people, in one word where lines are counted."""
    between = "\n" if sys.stdout.isatty() else ","
    return between.join(there["address"] for there in vm.get("networks", []))


def _forward(port: PortInfo) -> str:
    """As it was published."""
    protocol = "/udp" if port["protocol"] == Protocol.UDP else ""
    if port.get("own"):
        return f"{port['guest']}{protocol}"
    address = "" if port["address"] == LOOPBACK else f"{port['address']}:"
    return f"{address}{port['host']}:{port['guest']}{protocol}"


def print_details(details: VmDetails) -> None:
    """A vm, one fact a line."""
    for key, value in _facts(details):
        if value:
            say(f"{key:<12} {value}")


def _facts(details: VmDetails) -> Iterator[tuple[str, str]]:
    yield "name", details["name"]
    yield "status", ": ".join(filter(None, (details["status"], details["detail"])))
    if last := details["last_exit"]:
        yield "last stop", f"{last['reason']} ({last['ended']})"
    if "uuid" in details:
        yield from _spec_facts(details)
    if run := details["run"]:
        yield "process", f"{run['pid']}, since {run['started']}"
        yield "qemu", f"{run['qemu_version']}, {run['accelerator']}, cpu {run['cpu']}"
        if installed := details["qemu_installed"]:
            yield "", f"QEMU {installed} is installed now; restart {details['name']} to run under it"
    yield "directory", details["directory"]
    yield "console log", details["console_log"]
    yield "qemu log", details["qemu_log"]


def _spec_facts(details: VmDetails) -> Iterator[tuple[str, str]]:
    yield "template", f"{details['template']} (image {details['image'][:12]})"
    cpus = "1 cpu" if details["cpus"] == 1 else f"{details['cpus']} cpus"
    yield "machine", f"{details['machine']}, {cpus}, {format_size(details['memory'])}"
    if parent := details["parent"]:
        yield "clone", f"{parent['kind']}, of {parent['name']}"
    yield "uuid", details["uuid"]
    yield "mac", details["mac"]
    ssh = details["ssh"]
    also = "".join(f" and {port}" for port in ssh.get("ports", []) if port != ssh["port"])
    yield "ssh", f"{ssh['user']}@{ssh['address']} port {ssh['port']}{also}"
    yield "log in with", f"appcat vm ssh {details['name']}"
    for port in details["ports"]:
        yield "port", f"{port['address']}:{port['host']} -> {port['guest']}/{port['protocol']}"
        yield "", port.get("advice", "")
    for there in details["networks"]:
        yield "network", f"{there['network']}, {there['address']}, {there['mac']}: {' '.join(there['names'])}"
    for disk in details["disks"]:
        yield "disk", f"{disk['name']}, {format_size(disk['size'])}"
    yield "restart", details["restart"] + (", autostart" if details["autostart"] else "")
    yield "labels", ", ".join(f"{key}={value}" for key, value in details["labels"].items())
    yield "owner", details["owner"] + ("" if details["node"] == LOCAL_NODE else f" on {details['node']}")
    yield "created", details["created"]
