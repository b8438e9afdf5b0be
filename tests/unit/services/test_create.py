"""``create`` and private networks; what else it does is in ``test_config`` and ``tests/vm``."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import pytest

from appcat.errors import AppcatError
from appcat.model.network import Joining
from appcat.model.vm import Vm
from appcat.services import config, create, delete, edit, networks
from appcat.services.context import Context
from appcat.services.create import CreateRequest, with_defaults
from tests.unit.support.fake_guest import FakeGuest
from tests.unit.support.listing import names_in
from tests.unit.support.processes import fork_many
from tests.unit.support.samples import on, sample_image, sample_network, sample_vm
from tests.unit.support.vms import alive

LAB = (Joining("lab"),)


@pytest.fixture
def image(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A template whose image is there at once; the names of those that were asked for."""
    asked: list[str] = []

    def ensure(_ctx: Context, name: str) -> Any:
        asked.append(name)
        return types.SimpleNamespace(image=sample_image())

    monkeypatch.setattr(create.templates, "ensure", ensure)
    monkeypatch.setattr(create.templates, "find", lambda _ctx, _name: None)
    monkeypatch.setattr(networks, "host_routes", list)
    ctx.networks.save(sample_network())
    return asked


def make(ctx: Context, name: str, *joinings: Joining) -> Vm:
    return create.create(ctx, CreateRequest(name, networks=joinings))


def test_a_new_vm_has_its_places_for_good(ctx: Context, image: list[str]) -> None:
    made = make(ctx, "web", Joining("default"), Joining("lab", "10.77.0.9"))
    assert [(place.network, place.address, place.slot) for place in made.networks] == [
        ("default", "10.77.1.2", 0),
        ("lab", "10.77.0.9", 1),
    ]
    assert ctx.store.load("web") == made


def test_what_the_home_says_holds_where_nothing_was_asked_for(ctx: Context, image: list[str]) -> None:
    assert with_defaults(ctx, CreateRequest("web")).networks == create.DEFAULT_NETWORKS
    config.set_(ctx, "network", "lab,default")
    assert with_defaults(ctx, CreateRequest("web")).networks == (Joining("lab"), Joining("default"))
    assert with_defaults(ctx, CreateRequest("web", networks=())).networks == ()
    config.set_(ctx, "network", "none")
    assert with_defaults(ctx, CreateRequest("web")).networks == ()
    assert create.create(ctx, CreateRequest("web")).networks == ()


REFUSED: list[tuple[list[Joining], str]] = [
    ([Joining("nobody")], "network-not-found"),
    ([Joining("lab"), Joining("lab")], "invalid-input"),
    ([Joining("lab", "10.77.0.1")], "invalid-address"),
    ([Joining("lab", "10.77.0.2")], "address-in-use"),
]


@pytest.mark.parametrize(("joinings", "code"), REFUSED)
def test_refused_before_anything_is_built(ctx: Context, image: list[str], joinings: list[Joining], code: str) -> None:
    make(ctx, "first", *LAB)
    image.clear()
    with pytest.raises(AppcatError) as caught:
        make(ctx, "web", *joinings)
    assert caught.value.code == code
    assert image == []
    assert names_in(ctx.layout.vms) == ["first"]


def test_vms_made_at_once_have_addresses_of_their_own(ctx: Context, image: list[str]) -> None:
    made = fork_many(8, lambda number: make(ctx, f"n{number}", *LAB).networks[0])
    assert sorted(place.address for place in made) == [f"10.77.0.{number}" for number in range(2, 10)]
    assert len({place.mac for place in made}) == 8


def test_a_network_that_vms_are_being_put_on_is_not_deleted_under_them(ctx: Context, image: list[str]) -> None:
    def attempt(number: int) -> str:
        try:
            if number:
                make(ctx, f"n{number}", *LAB)
                return "made"
            networks.delete_network(ctx, "lab")
            return "deleted"
        except AppcatError as error:
            return error.code

    outcomes = fork_many(4, attempt)
    if outcomes[0] == "deleted":
        assert outcomes[1:] == ["network-not-found"] * 3
    else:
        assert outcomes[0] == "network-in-use"
        assert "lab" in ctx.networks.names()
    for name in ctx.store.names():
        assert ctx.networks.exists(ctx.store.load(name).networks[0].network)


CHANGES: dict[str, tuple[Callable[[Context], object], bool]] = {
    "create": (lambda ctx: make(ctx, "new", *LAB), True),
    "create elsewhere": (lambda ctx: make(ctx, "new", Joining("default")), False),
    "create nowhere": (lambda ctx: make(ctx, "new"), False),
    "rename": (lambda ctx: edit.rename(ctx, "db", "new"), True),
    "delete": (lambda ctx: delete.delete(ctx, "db"), True),
    "label": (lambda ctx: edit.label(ctx, "db", {"a": "b"}), False),
}


@pytest.mark.parametrize(("change", "tells"), CHANGES.values(), ids=CHANGES)
def test_those_who_run_are_told_of_every_change(
    ctx: Context, image: list[str], change: Callable[[Context], object], tells: bool
) -> None:
    make(ctx, "db", *LAB)
    web = sample_vm(networks=(on("lab", "10.77.0.9"),))
    with alive(ctx, web):
        runtime = ctx.layout.runtime(web.uuid)
        runtime.ready.touch()
        with FakeGuest(runtime.guest) as guest:
            create.neighbours.inform(ctx, ["lab"])
            assert len(guest.told) == 1
            change(ctx)
            assert (len(guest.told) == 2) is tells
