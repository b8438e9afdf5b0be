"""Events: facts that happened in a home, in the order in which they did."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

SCHEMA = 1


class EventKind(StrEnum):
    """What can happen; in brackets, what ``detail`` says of it.

    ``vm.ready`` tells that the guest agent has answered, once in a life of a vm's QEMU, by whoever asked it first.
    ``vm.stopped`` (cause, reason: ``model.run.Exit``) is told once, by whoever notices the end of a vm that had
    started.
    """

    VM_CREATED = "vm.created"  # template; of a clone: parent, clone (its kind)
    VM_STARTED = "vm.started"
    VM_READY = "vm.ready"
    VM_STOPPED = "vm.stopped"  # cause, reason
    VM_PAUSED = "vm.paused"
    VM_UNPAUSED = "vm.unpaused"
    VM_RESTARTED = "vm.restarted"  # by: "owner" or "policy"
    VM_EDITED = "vm.edited"  # what was changed, and to what
    VM_RENAMED = "vm.renamed"  # from
    VM_LABELLED = "vm.labelled"  # labels, removed
    VM_DELETED = "vm.deleted"
    VM_CLONED = "vm.cloned"  # of the source: names, kind, stun (seconds)
    VM_FLATTENED = "vm.flattened"
    PORT_ADDED = "port.added"  # port
    PORT_REMOVED = "port.removed"  # port
    DISK_ADDED = "disk.added"  # disk, size
    DISK_REMOVED = "disk.removed"  # disk
    DISK_GROWN = "disk.grown"  # disk, size
    NETWORK_CREATED = "network.created"  # network, subnet
    NETWORK_DELETED = "network.deleted"  # network
    NETWORK_ATTACHED = "network.attached"  # of a vm: network, address
    NETWORK_DETACHED = "network.detached"  # of a vm: network, address
    TEMPLATE_BUILT = "template.built"  # template, image
    TEMPLATE_CREATED = "template.created"  # template, image; of a vm: from
    TEMPLATE_DELETED = "template.deleted"  # template
    CONFIG_CHANGED = "config.changed"  # key, value (None: forgotten)
    OPERATION_STARTED = "operation.started"  # id, verb, vms
    OPERATION_ENDED = "operation.ended"  # id, verb, vms, state


@dataclass(frozen=True)
class Event:
    """One fact. ``vm`` is what the vm was called then, with ``uuid`` empty where it concerns none.

    ``id`` grows by one from event to event and is never used again in a home; 0 marks one that could not be written
    down. ``time`` is RFC 3339 UTC with milliseconds. ``kind`` is text, so that kinds of a newer appcat can be read.
    """

    id: int
    time: str
    kind: str
    vm: str = ""
    uuid: str = ""
    detail: dict[str, object] = field(default_factory=dict)
