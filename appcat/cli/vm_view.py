"""Virtual machines as people read them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from appcat.cli.output import print_table, say
from appcat.model.port import LOOPBACK
from appcat.model.size import format_size
from appcat.model.status import Observation, Status

COLUMNS = ["NAME", "STATUS", "TEMPLATE", "CPUS", "MEMORY", "SSH", "PORTS"]
STYLES = {"running": "green", "broken": "red", "unresponsive": "red", "paused": "yellow"}


def print_list(found: list[Observation]) -> None:
    """A table that fits 80 columns, and below it why a vm is broken."""
    if not found:
        say("no vms yet; make one: appcat vm run NAME")
        return
    print_table(COLUMNS, [_row(seen) for seen in found], STYLES)
    for seen in found:
        if seen.status is Status.BROKEN:
            say(f"{seen.name}: {seen.detail}")


def _row(seen: Observation) -> list[str]:
    vm = seen.vm
    status = f"busy: {seen.detail}" if seen.status is Status.BUSY else str(seen.status)
    if vm is None:
        return [seen.name, status, "", "", "", "", ""]
    ports = " ".join(str(port).removeprefix(f"{LOOPBACK}:") for port in vm.ports)
    return [seen.name, status, vm.template.name, str(vm.cpus), format_size(vm.memory), str(vm.ssh_port), ports]


def print_details(details: dict[str, Any]) -> None:
    """A vm, one fact a line."""
    for key, value in _facts(details):
        if value:
            say(f"{key:<12} {value}")


def _facts(details: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "name", details["name"]
    yield "status", ": ".join(filter(None, (details["status"], details["detail"])))
    if last := details["last_exit"]:
        yield "last stop", f"{last['reason']} ({last['ended']})"
    if "uuid" in details:
        yield from _spec_facts(details)
    if run := details["run"]:
        yield "process", f"{run['pid']}, since {run['started']}"
        yield "qemu", f"{run['qemu_version']}, {run['accelerator']}, cpu {run['cpu']}"
    yield "directory", details["directory"]
    yield "console log", details["console_log"]
    yield "qemu log", details["qemu_log"]


def _spec_facts(details: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "template", f"{details['template']} (image {details['image'][:12]})"
    cpus = "1 cpu" if details["cpus"] == 1 else f"{details['cpus']} cpus"
    yield "machine", f"{details['machine']}, {cpus}, {format_size(details['memory'])}"
    yield "uuid", details["uuid"]
    yield "mac", details["mac"]
    ssh = details["ssh"]
    yield "ssh", f"{ssh['user']}@{ssh['address']} port {ssh['port']}; log in with: appcat vm ssh {details['name']}"
    for port in details["ports"]:
        yield "port", f"{port['address']}:{port['host']} -> {port['guest']}/{port['protocol']}"
    for disk in details["disks"]:
        yield "disk", f"{disk['name']}, {format_size(disk['size'])}"
    yield "restart", details["restart"] + (", autostart" if details["autostart"] else "")
    yield "labels", ", ".join(f"{key}={value}" for key, value in details["labels"].items())
    yield "owner", f"{details['owner']} on {details['node']}"
    yield "created", details["created"]
