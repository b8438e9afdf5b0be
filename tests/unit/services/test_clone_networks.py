from __future__ import annotations

import pytest

from appcat.errors import AppcatError, InvalidInput, NotFound
from appcat.model.network import Attachment, Joining
from appcat.model.vm import CloneKind, Vm
from appcat.services import networks
from appcat.services.addresses import AddressInUse, NetworkFull
from appcat.services.clone import CloneRequest, clone
from appcat.services.clone_networks import check_networks, instead, places, places_of_instant
from appcat.services.context import Context
from tests.unit.support.samples import OTHER_UUID, on, sample_network, sample_vm
from tests.unit.support.vms import add_vm


@pytest.fixture(autouse=True)
def no_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "host_routes", list)


@pytest.fixture
def source(ctx: Context) -> Vm:
    """On ``lab`` and, in another slot than the next, on ``store``; ``twin`` has lab's subnet."""
    ctx.networks.save(sample_network())
    ctx.networks.save(sample_network("store", subnet="10.77.1.0/24"))
    ctx.networks.save(sample_network("twin", twin="lab"))
    return add_vm(ctx, sample_vm(networks=(on("lab", "10.77.0.5"), on("store", "10.77.1.5", 2))))


def of(places: tuple[Attachment, ...]) -> list[tuple[str, str, int]]:
    return [(place.network, place.address, place.slot) for place in places]


def instant(ctx: Context, source: Vm, *names: str, to: str = "", fork: bool = False) -> list[tuple[Attachment, ...]]:
    """Places of instant clones; ``to`` are networks, with addresses perhaps."""
    wanted = tuple(Joining(*text.split(":")) for text in to.split()) if to else None
    return list(places_of_instant(ctx, source, names, wanted, fork).values())


def test_instant_clones_are_where_their_source_is_each_at_its_own_place(ctx: Context, source: Vm) -> None:
    found = instant(ctx, source, "a", "b")
    assert [of(one) for one in found] == [
        [("lab", "10.77.0.2", 0), ("store", "10.77.1.2", 2)],
        [("lab", "10.77.0.3", 0), ("store", "10.77.1.3", 2)],
    ]
    macs = {place.mac for one in (source.networks, *found) for place in one}
    assert len(macs) == 6


def test_cards_go_where_they_are_sent_in_their_slots(ctx: Context, source: Vm) -> None:
    (found,) = instant(ctx, source, "a", to="store:10.77.1.9 lab")
    assert of(found) == [("store", "10.77.1.9", 0), ("lab", "10.77.0.2", 2)]


def test_a_fork_on_its_sources_networks_is_somebody_else_there(ctx: Context, source: Vm) -> None:
    (found,) = instant(ctx, source, "f", fork=True)
    assert of(found) == [("lab", "10.77.0.2", 0), ("store", "10.77.1.2", 2)]
    assert {place.mac for place in found}.isdisjoint(place.mac for place in source.networks)


def test_a_fork_on_a_twin_keeps_what_it_has_the_second_one_cannot(ctx: Context, source: Vm) -> None:
    first, second = instant(ctx, source, "f", "g", to="twin store", fork=True)
    assert (first[0].mac, of(first)[0]) == (source.networks[0].mac, ("twin", "10.77.0.5", 0))
    assert of(first)[1] == ("store", "10.77.1.2", 2)
    assert of(second)[0] == ("twin", "10.77.0.2", 0)
    assert second[0].mac != source.networks[0].mac


def test_a_clone_that_is_no_fork_keeps_nothing_on_a_twin(ctx: Context, source: Vm) -> None:
    (found,) = instant(ctx, source, "a", to="twin store")
    assert of(found)[0] == ("twin", "10.77.0.2", 0)
    assert found[0].mac != source.networks[0].mac


def test_a_fork_that_is_told_its_address_has_that(ctx: Context, source: Vm) -> None:
    (other,) = instant(ctx, source, "f", to="twin:10.77.0.77 store", fork=True)
    (same,) = instant(ctx, source, "g", to="twin:10.77.0.5 store", fork=True)
    assert (of(other)[0][1], of(same)[0][1]) == ("10.77.0.77", "10.77.0.5")
    assert other[0].mac != source.networks[0].mac
    assert same[0].mac == source.networks[0].mac


def test_a_fork_whose_address_somebody_has_on_the_twin_gets_another(ctx: Context, source: Vm) -> None:
    add_vm(ctx, sample_vm("db", uuid=OTHER_UUID, networks=(on("twin", "10.77.0.5"),)))
    (found,) = instant(ctx, source, "f", to="twin store", fork=True)
    assert of(found)[0] == ("twin", "10.77.0.2", 0)


def test_clones_that_are_powered_off_can_be_on_any_networks(ctx: Context, source: Vm) -> None:
    assert of(places(ctx, source, "a", None)) == [("lab", "10.77.0.2", 0), ("store", "10.77.1.2", 1)]
    assert of(places(ctx, source, "a", [])) == []
    assert of(places(ctx, source, "a", [Joining("twin")])) == [("twin", "10.77.0.2", 0)]


def test_networks_exchanged(source: Vm) -> None:
    assert instead(source, None) is None
    assert instead(source, {"lab": "twin"}) == (Joining("twin"), Joining("store"))


REFUSED: dict[str, tuple[tuple[str, ...], CloneKind, tuple[Joining, ...], type[AppcatError]]] = {
    "too few": (("a",), CloneKind.INSTANT, (Joining("lab"),), InvalidInput),
    "none": (("a",), CloneKind.INSTANT, (), InvalidInput),
    "twice": (("a",), CloneKind.INSTANT, (Joining("lab"), Joining("lab")), InvalidInput),
    "one address for two": (("a", "b"), CloneKind.LINKED, (Joining("lab", "10.77.0.9"),), InvalidInput),
    "nowhere": (("a",), CloneKind.LINKED, (Joining("nowhere"),), NotFound),
    "the source's own": (("a",), CloneKind.LINKED, (Joining("lab", "10.77.0.5"),), AddressInUse),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_anything_is_made(ctx: Context, source: Vm, case: str) -> None:
    names, kind, wanted, error = REFUSED[case]
    with pytest.raises(error) as caught:
        check_networks(ctx, source, names, kind, wanted)
    assert caught.value.hint


def test_a_network_without_room_for_all_takes_none(ctx: Context, source: Vm) -> None:
    ctx.networks.save(sample_network("small", subnet="10.77.9.0/29"))
    names = [f"n{number}" for number in range(6)]
    with pytest.raises(NetworkFull):
        instant(ctx, source, *names, to="small store")


def test_a_linked_clone_has_places_of_its_own(ctx: Context, source: Vm) -> None:
    clone(ctx, CloneRequest("web", ("a", "b"), CloneKind.LINKED))
    assert of(ctx.store.load("a").networks) == [("lab", "10.77.0.2", 0), ("store", "10.77.1.2", 1)]
    assert of(ctx.store.load("b").networks) == [("lab", "10.77.0.3", 0), ("store", "10.77.1.3", 1)]
