"""Where clones are on private networks: on those of their source, with a MAC and addresses of their own, or elsewhere.

Only an instant clone has its source's cards, so each of these needs somewhere to go. Only a fork, on another network
with the same subnet, keeps what its source has: the guest in it goes on as if nothing had happened.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from appcat.errors import InvalidInput
from appcat.model.network import Attachment, Joining
from appcat.model.vm import CloneKind, Vm
from appcat.services import addresses, neighbours
from appcat.services.addresses import Book, network_of, read_book
from appcat.services.context import Context
from appcat.services.networks import network_for
from appcat.services.offspring import Outcome


def check_networks(
    ctx: Context, source: Vm, names: Sequence[str], kind: CloneKind, networks: Sequence[Joining] | None
) -> None:
    """Refuse where clones called ``names`` cannot be; raises InvalidInput and as ``addresses.check``."""
    if networks is None:
        return
    if len(names) > 1 and any(joining.address for joining in networks):
        raise InvalidInput(
            "several clones cannot have the same address",
            hint="leave the address out: each gets the next free one",
            code="invalid-address",
        )
    if kind is CloneKind.INSTANT and len(networks) != len(source.networks):
        raise InvalidInput(
            f"{source.name} is on {len(source.networks)} networks and its instant clones have as many cards,"
            f" not {len(networks)}",
            hint="give one --network for each of its own, in their order, or none at all",
        )
    addresses.check(ctx, networks)


def instead(source: Vm, networks: Mapping[str, str] | None) -> tuple[Joining, ...] | None:
    """Where each card of ``source`` goes when ``networks`` are exchanged for others."""
    if networks is None:
        return None
    return tuple(Joining(networks.get(place.network, place.network)) for place in source.networks)


def places(ctx: Context, source: Vm, name: str, networks: Sequence[Joining] | None) -> tuple[Attachment, ...]:
    """Places of a clone that is powered off. The caller holds the allocation lock. Raises as ``addresses.place``."""
    return addresses.place(ctx, _wanted(source, networks), vm=name)


def places_of_instant(
    ctx: Context, source: Vm, names: Sequence[str], networks: Sequence[Joining] | None, fork: bool
) -> dict[str, tuple[Attachment, ...]]:
    """Places of instant clones called ``names``, in their source's slots. The caller holds the allocation lock.

    Raises as ``addresses.place``, and InvalidInput when the source's networks are others by now.
    """
    wanted = _wanted(source, networks)
    if not wanted:
        return dict.fromkeys(names, ())
    check_networks(ctx, source, names, CloneKind.INSTANT, wanted)
    book = read_book(ctx)
    return {name: _move(ctx, source, name, wanted, fork, book) for name in names}


def inform_of(ctx: Context, outcomes: Sequence[Outcome]) -> None:
    """Tell those who are on the new vms' networks of them."""
    neighbours.inform_of(ctx, [outcome.vm for outcome in outcomes if outcome.vm])


def _wanted(source: Vm, networks: Sequence[Joining] | None) -> tuple[Joining, ...]:
    return tuple(Joining(place.network) for place in source.networks) if networks is None else tuple(networks)


def _move(
    ctx: Context, source: Vm, name: str, wanted: Sequence[Joining], fork: bool, book: Book
) -> tuple[Attachment, ...]:
    moved = []
    for before, joining in zip(source.networks, wanted, strict=True):
        if fork and _may_stay(ctx, before, joining, book):
            place = dataclasses.replace(before, network=joining.network)
            book.note(name, place)
        else:
            (found,) = addresses.place(ctx, [joining], vm=name, book=book)
            place = dataclasses.replace(found, slot=before.slot)
        moved.append(place)
    return tuple(moved)


def _may_stay(ctx: Context, before: Attachment, joining: Joining, book: Book) -> bool:
    """Whether who had ``before`` can have the same MAC and address on another network: nobody has them there."""
    if joining.network == before.network or joining.address not in ("", before.address):
        return False
    same = network_for(ctx, joining.network).subnet == network_of(ctx, before).subnet
    return same and not book.owner(joining.network, before.address)
