"""Results as plain data (``model.shapes``): what ``--json`` prints and the API answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, cast

from appcat.errors import AppcatError
from appcat.model.codec import encode
from appcat.model.run import Run
from appcat.model.shapes import (
    AttachmentInfo,
    CheckInfo,
    CloneFailure,
    CloneInfo,
    CopyInfo,
    DiskInfo,
    EventInfo,
    ImageInfo,
    OperationInfo,
    PortInfo,
    RemovedInfo,
    SettingInfo,
    StatsInfo,
    TemplateInfo,
    VmDetails,
    VmInfo,
)
from appcat.model.status import Observation, Status
from appcat.model.vm import Vm, place_names
from appcat.services.context import Context
from appcat.services.listening import Listening
from appcat.services.places import Outlook, Place
from appcat.store.files import disk_usage, shared_usage

if TYPE_CHECKING:
    from appcat.model.event import Event
    from appcat.model.operation import Operation
    from appcat.services.clone import Cloned
    from appcat.services.config import Setting
    from appcat.services.copy import Copied
    from appcat.services.disks import DiskUse
    from appcat.services.doctor import Check
    from appcat.services.stats import Usage
    from appcat.services.template_garbage import Removed
    from appcat.services.templates import KnownTemplate
    from appcat.services.verify import Facts
    from appcat.store.images import StoredImage


def describe(seen: Observation, table: Listening | None = None) -> VmInfo:
    """The parts every listing shows; ``table`` is what listens on this host, where that is known already."""
    head = {"name": seen.name, "status": str(seen.status), "detail": seen.detail}
    if seen.vm is None:
        return cast(VmInfo, head)
    outlook = Outlook(seen.vm, seen.status is not Status.STOPPED, table or Listening())
    return cast(VmInfo, {**head, **_spec(seen.vm, outlook)})


def describe_fully(ctx: Context, seen: Observation) -> VmDetails:
    """All there is to say of one vm, with the files to look at."""
    paths = ctx.layout.vm(seen.name)
    files = {"directory": paths.root, "console_log": paths.console_log, "qemu_log": paths.qemu_log}
    alive = seen.status not in (Status.STOPPED, Status.BROKEN)
    details = {
        **describe(seen),
        "run": encode(seen.run) if seen.run and alive else None,
        "qemu_installed": _newer_qemu(ctx, seen.run) if seen.run and alive else None,
        "last_exit": encode(seen.last_exit),
        **{key: str(path) for key, path in files.items()},
    }
    return cast(VmDetails, details)


def _newer_qemu(ctx: Context, run: Run) -> str | None:
    """The version of QEMU that the next start would use, when that is not the one that runs now."""
    try:
        installed = ctx.host.qemu.version
    except AppcatError:
        return None
    return None if installed == run.qemu_version else installed


def _spec(vm: Vm, outlook: Outlook) -> dict[str, Any]:
    return {
        "uuid": vm.uuid,
        "template": vm.template.name,
        "image": vm.template.image,
        "cpus": vm.cpus,
        "memory": vm.memory,
        "machine": vm.machine.type,
        "ssh": _ssh(vm, outlook),
        "ports": [describe_port(place) for place in outlook.published],
        "address": vm.address,
        "disks": [encode(disk) for disk in vm.disks],
        "mac": vm.nics[0].mac,
        "networks": describe_attachments(vm),
        "restart": str(vm.restart),
        "autostart": vm.autostart,
        "parent": encode(vm.parent),
        "labels": vm.labels,
        "owner": vm.owner,
        "node": vm.node,
        "created": vm.created,
    }


def describe_attachments(vm: Vm) -> list[AttachmentInfo]:
    """The vm's places on private networks."""
    return [cast(AttachmentInfo, {**encode(place), "names": place_names(vm, place)}) for place in vm.networks]


def _ssh(vm: Vm, outlook: Outlook) -> dict[str, Any]:
    told = {"address": vm.ssh_forward.address, "port": vm.ssh_port, "user": vm.login}
    return {**told, "ports": [place.forward.host for place in outlook.ssh]} if vm.address else told


def describe_clones(done: Cloned, facts: Sequence[Facts] = ()) -> CloneInfo:
    """What came of a request for clones; ``facts`` where they were verified."""
    made = [(outcome, outcome.vm) for outcome in done.outcomes if outcome.vm]
    told = {
        "kind": str(done.kind),
        "clones": [
            {
                "name": outcome.name,
                "uuid": vm.uuid,
                "address": vm.address,
                "ssh_port": vm.ssh_port,
                "seconds": outcome.seconds,
            }
            for outcome, vm in made
        ],
        "failed": [_failure(outcome.name, outcome.error) for outcome in done.outcomes if outcome.error],
        "stun": done.stun,
        "base": {"seconds": done.base_seconds, "memory": done.base_memory},
    }
    return cast(CloneInfo, {**told, "verified": [encode(fact) for fact in facts]} if facts else told)


def _failure(name: str, error: AppcatError) -> CloneFailure:
    return {
        "name": name,
        "code": error.code,
        "message": error.message,
        "hint": error.hint,
        "details": error.details,
        "exit_code": error.exit_code,
    }


def describe_port(place: Place) -> PortInfo:
    """A place on the host that leads into a guest."""
    more = {"own": place.own, "advice": place.advice}
    return cast(PortInfo, {**encode(place.forward), **{key: value for key, value in more.items() if value}})


def describe_disk(use: DiskUse) -> DiskInfo:
    """A disk, and what it takes on the host."""
    return cast(DiskInfo, {**encode(use.disk), "used": use.used, "shared": use.shared})


def describe_usages(usages: Sequence[Usage], total: Usage) -> StatsInfo:
    """What vms take of the host."""
    return cast(StatsInfo, {"vms": [asdict(usage) for usage in usages], "total": asdict(total)})


def describe_copy(done: Copied) -> CopyInfo:
    """What was copied."""
    return {"files": done.files, "bytes": done.bytes, "skipped": list(done.skipped)}


def describe_image(stored: StoredImage) -> ImageInfo:
    """A built image and where it lies."""
    return cast(ImageInfo, {**encode(stored.image), "directory": str(stored.directory)})


def describe_template(known: KnownTemplate) -> TemplateInfo:
    """A template and its image, if there is one."""
    stored = known.image
    return {
        "name": known.name,
        "description": known.description,
        "directory": str(known.directory),
        "problem": known.problem,
        "own": known.own,
        "vms": list(known.vms),
        "size": stored.image.compressed_size if stored else 0,
        "used": disk_usage(stored.directory) if stored else 0,
        "shared": shared_usage(stored.directory) if stored else 0,
        "image": describe_image(stored) if stored else None,
    }


def describe_removed(removed: Removed) -> RemovedInfo:
    """Something that gave its space back."""
    return cast(RemovedInfo, asdict(removed))


def describe_setting(setting: Setting, *, whole: bool = False) -> SettingInfo:
    """One default, without a password that may be in it; ``whole`` with it, for who asks for this one."""
    value = setting.value if whole else setting.shown
    return {"key": setting.key, "value": value, "source": setting.source, "help": setting.help}


def describe_check(check: Check) -> CheckInfo:
    """One thing the doctor looked at."""
    return cast(CheckInfo, encode(check))


def describe_event(event: Event) -> EventInfo:
    """A fact that happened."""
    return cast(EventInfo, encode(event))


def describe_operation(operation: Operation) -> OperationInfo:
    """A long action."""
    return cast(OperationInfo, encode(operation))
