from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appcat.errors import AppcatError, Broken, InvalidInput, NotFound, Unavailable
from appcat.model.network import MOST_NETWORKS, Joining, Network
from appcat.model.vm import Nic
from appcat.services import addresses, networks
from appcat.services.addresses import (
    AddressInUse,
    Book,
    NetworkFull,
    check,
    internet_of,
    network_of,
    pick_address,
    place,
    random_mac,
    read_book,
)
from appcat.services.context import Context
from appcat.store.images import StoredImage
from tests.unit.support.samples import OTHER_UUID, on, sample_image, sample_network, sample_vm
from tests.unit.support.vms import add_vm


@pytest.fixture(autouse=True)
def no_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "host_routes", list)


@pytest.fixture
def lab(ctx: Context) -> Network:
    network = sample_network(subnet="10.77.5.0/29")
    ctx.networks.save(network)
    return network


def address(ctx: Context, text: str = "") -> str:
    """The address that the next vm on ``lab`` gets."""
    (found,) = place(ctx, [Joining("lab", text)], vm="new")
    return found.address


def test_lowest_free_address_but_for_the_first_of_the_subnet(ctx: Context, lab: Network) -> None:
    assert address(ctx) == "10.77.5.2"
    add_vm(ctx, sample_vm(networks=(on("lab", "10.77.5.2"),)))
    add_vm(ctx, sample_vm("db", networks=(on("lab", "10.77.5.4"),)))
    assert address(ctx) == "10.77.5.3"
    ctx.store.remove("web")
    assert address(ctx) == "10.77.5.2"


def test_the_same_address_on_another_network_is_free(ctx: Context, lab: Network) -> None:
    add_vm(ctx, sample_vm(networks=(on("other", "10.77.5.2"),)))
    assert address(ctx) == "10.77.5.2"


@pytest.mark.parametrize("last", ["10.77.5.2", "10.77.5.6"])
def test_address_that_was_asked_for(ctx: Context, lab: Network, last: str) -> None:
    assert address(ctx, last) == last


def test_address_that_somebody_has(ctx: Context, lab: Network) -> None:
    add_vm(ctx, sample_vm(networks=(on("lab", "10.77.5.2"),)))
    for attempt in (address, lambda ctx, text: check(ctx, [Joining("lab", text)])):
        with pytest.raises(AddressInUse, match="web has it") as caught:
            attempt(ctx, "10.77.5.2")
        assert caught.value.code == "address-in-use"


@pytest.mark.parametrize("text", ["10.77.5.0", "10.77.5.1", "10.77.5.7", "10.77.5.8", "10.77.4.2", "127.0.0.1", "x"])
def test_addresses_that_nobody_can_have(ctx: Context, lab: Network, text: str) -> None:
    for attempt in (address, lambda ctx, text: check(ctx, [Joining("lab", text)])):
        with pytest.raises(InvalidInput) as caught:
            attempt(ctx, text)
        assert caught.value.code == "invalid-address"


def test_full_subnet(ctx: Context, lab: Network) -> None:
    for number in range(2, 7):
        add_vm(ctx, sample_vm(f"n{number}", networks=(on("lab", f"10.77.5.{number}"),)))
    for attempt in (address, lambda ctx: check(ctx, [Joining("lab")])):
        with pytest.raises(NetworkFull, match=r"10\.77\.5\.0/29") as caught:
            attempt(ctx)
        assert caught.value.code == "network-full"


def test_unknown_network(ctx: Context) -> None:
    for attempt in (address, lambda ctx: check(ctx, [Joining("lab")])):
        with pytest.raises(NotFound) as caught:
            attempt(ctx)
        assert caught.value.hint == "make it: appcat network create lab"


def test_damaged_network(ctx: Context, lab: Network) -> None:
    ctx.layout.network("lab").write_text("")
    for attempt in (address, lambda ctx: check(ctx, [Joining("lab")])):
        with pytest.raises(Broken):
            attempt(ctx)


@pytest.mark.parametrize(
    "names", [["lab", "lab"], ["lab", "other", "lab"], [f"n{number}" for number in range(MOST_NETWORKS + 1)]]
)
def test_networks_that_one_vm_cannot_be_on(ctx: Context, lab: Network, names: list[str]) -> None:
    for attempt in (lambda wished: place(ctx, wished, vm="new"), lambda wished: check(ctx, wished)):
        with pytest.raises(InvalidInput):
            attempt([Joining(name) for name in names])


def test_a_vm_is_on_a_network_or_on_its_twin(ctx: Context, lab: Network) -> None:
    ctx.networks.save(sample_network("twin", subnet=lab.subnet, twin="lab"))
    both = [Joining("lab"), Joining("twin")]
    for attempt in (
        lambda: check(ctx, both),
        lambda: place(ctx, both, vm="new"),
        lambda: place(ctx, [Joining("twin")], [on("lab", "10.77.5.3")], vm="web"),
    ):
        with pytest.raises(InvalidInput, match=r"lab and twin have the same addresses \(10\.77\.5\.0/29\)"):
            attempt()
    assert place(ctx, [Joining("twin")], [on("other", "10.78.5.3")], vm="web")


def test_no_networks_cost_nothing(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "readable_vms", lambda _ctx: pytest.fail("the vms were read"))
    assert place(ctx, [], vm="new") == ()
    check(ctx, [])


def test_each_network_has_a_card_of_its_own(ctx: Context, lab: Network) -> None:
    ctx.networks.save(sample_network("other", subnet="10.88.0.0/24"))
    found = place(ctx, [Joining("other", "10.88.0.9"), Joining("lab")], vm="new")
    assert [(there.network, there.address, there.slot) for there in found] == [
        ("other", "10.88.0.9", 0),
        ("lab", "10.77.5.2", 1),
    ]
    assert found[0].mac != found[1].mac
    sample_vm(networks=found)


def test_one_more_place_for_a_vm_that_has_some(ctx: Context, lab: Network) -> None:
    have = [on("a", "10.1.0.2", 0), on("b", "10.2.0.2", 2)]
    (found,) = place(ctx, [Joining("lab")], have, vm="web")
    assert found.slot == 1
    with pytest.raises(InvalidInput, match="a is given twice"):
        place(ctx, [Joining("a")], have, vm="web")
    with pytest.raises(InvalidInput):
        place(ctx, [Joining("lab"), Joining("c"), Joining("d")], have, vm="web")


@pytest.mark.parametrize(("level", "can"), [(1, False), (2, True), (None, True)])
def test_a_vm_of_an_old_image_cannot_be_put_on_a_network(
    ctx: Context, lab: Network, monkeypatch: pytest.MonkeyPatch, level: int | None, can: bool
) -> None:
    """Without its image, a vm gets the template as it is now at its next start."""
    add_vm(ctx, sample_vm())
    stored = StoredImage(sample_image(guest=level), Path("/")) if level else None
    monkeypatch.setattr(addresses.templates, "image_of", lambda _ctx, _digest: stored)
    if can:
        assert place(ctx, [Joining("lab")], vm="web")
    else:
        with pytest.raises(Unavailable, match="web was made before"):
            place(ctx, [Joining("lab")], vm="web")
    assert place(ctx, [Joining("lab")], vm="new")


def test_the_default_network_is_made_when_a_vm_is_to_be_on_it(ctx: Context) -> None:
    check(ctx, [Joining("default")])
    assert ctx.networks.names() == []
    (found,) = place(ctx, [Joining("default")], vm="new")
    assert ctx.networks.names() == ["default"]
    assert found.address == "10.77.0.2"


def test_several_vms_planned_with_one_book_get_different_places(ctx: Context, lab: Network) -> None:
    book = read_book(ctx)
    found = [place(ctx, [Joining("lab")], vm=f"n{number}", book=book)[0] for number in range(5)]
    assert sorted(there.address for there in found) == [f"10.77.5.{number}" for number in range(2, 7)]
    assert len({there.mac for there in found}) == 5
    with pytest.raises(NetworkFull):
        place(ctx, [Joining("lab")], vm="one-too-many", book=book)


def test_the_book_knows_every_mac_and_owner_but_nothing_of_broken_vms(ctx: Context) -> None:
    add_vm(ctx, sample_vm(nics=(Nic("52:54:00:00:00:01"),), networks=(on("lab", "10.77.5.2"),)))
    add_vm(ctx, sample_vm("bad", uuid=OTHER_UUID, networks=(on("lab", "10.77.5.3"),)))
    ctx.layout.vm("bad").spec.write_text("")
    book = read_book(ctx)
    assert book.macs == {"52:54:00:00:00:01", on("lab", "10.77.5.2").mac}
    assert (book.owner("lab", "10.77.5.2"), book.owner("lab", "10.77.5.3")) == ("web", "")


def test_a_mac_is_given_once(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter([b"\0\0\1", b"\0\0\1", b"\0\0\2"])
    monkeypatch.setattr(addresses.secrets, "token_bytes", lambda _count: next(drawn))
    assert random_mac({"52:54:00:00:00:01"}) == "52:54:00:00:00:02"


@given(st.integers(16, 29), st.integers(0, 2**16 - 1), st.sets(st.integers(0, 40)))
def test_whatever_is_taken_the_address_is_free_and_inside(prefix: int, where: int, taken: set[int]) -> None:
    subnet = ipaddress.IPv4Network((int(ipaddress.IPv4Address("10.0.0.0")) + (where << 8), prefix), strict=False)
    network = sample_network(subnet=str(subnet))
    book = Book({"lab": {str(subnet.network_address + number): "x" for number in taken}})
    usable = [number for number in range(2, subnet.num_addresses - 1) if number not in taken]
    if not usable:
        with pytest.raises(NetworkFull):
            pick_address(book, network, Joining("lab"))
    else:
        assert pick_address(book, network, Joining("lab")) == str(subnet.network_address + usable[0])


@pytest.mark.parametrize(
    ("on_networks", "way_out"),
    [([], True), (["open"], True), (["shut"], False), (["shut", "shut2"], False), (["shut", "open"], True)],
)
def test_a_vm_has_a_way_out_unless_all_its_networks_are_without(
    ctx: Context, on_networks: list[str], way_out: bool
) -> None:
    for name in ("open", "shut", "shut2"):
        ctx.networks.save(sample_network(name, internet=name == "open"))
    places = tuple(on(name, f"10.77.0.{number + 2}", number) for number, name in enumerate(on_networks))
    assert internet_of(ctx, sample_vm(networks=places)) is way_out


def test_a_network_whose_file_is_gone_says_how_to_do_without(ctx: Context) -> None:
    place_there = on("lab", "10.77.0.2")
    for attempt in (network_of, lambda ctx, place: internet_of(ctx, sample_vm(networks=(place,)))):
        with pytest.raises(AppcatError) as caught:
            attempt(ctx, place_there)
        assert caught.value.code == "network-not-found"
        assert "appcat network create lab" in caught.value.hint
