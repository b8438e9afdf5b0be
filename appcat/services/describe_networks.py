"""Networks as plain data (``model.shapes``)."""

from __future__ import annotations

from typing import cast

from appcat.model.codec import encode
from appcat.model.shapes import MemberInfo, NetworkDetails, NetworkInfo
from appcat.model.vm import place_names
from appcat.services.networks import SeenNetwork
from appcat.services.show_network import ShownNetwork

NOTHING = {"subnet": "", "internet": False, "twin": "", "created": "", "owner": "", "labels": {}}


def describe_network(seen: SeenNetwork) -> NetworkInfo:
    """The parts every listing shows."""
    facts = NOTHING if seen.network is None else encode(seen.network)
    vms = [vm.name for vm, _ in seen.members]
    return cast(NetworkInfo, {**facts, "name": seen.name, "vms": vms, "problem": seen.problem})


def describe_network_fully(shown: ShownNetwork) -> NetworkDetails:
    """All there is to say of one network."""
    members: list[MemberInfo] = [
        {
            "vm": vm.name,
            "status": str(status),
            "mac": place.mac,
            "address": place.address,
            "names": place_names(vm, place),
        }
        for (vm, place), status in zip(shown.seen.members, shown.statuses, strict=True)
    ]
    return {
        **describe_network(shown.seen),
        "backend": shown.backend,
        "state": str(shown.state),
        "detail": shown.detail,
        "members": members,
        "conflicts": list(shown.conflicts),
    }
