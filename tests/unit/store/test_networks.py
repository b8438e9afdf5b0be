from __future__ import annotations

import json
import shutil

import pytest

from appcat.errors import AlreadyExists, AppcatError, Broken, InvalidInput, NotFound
from appcat.model import codec
from appcat.services.context import Context
from appcat.store.networks import NetworkStore
from tests.unit.support.listing import names_in
from tests.unit.support.samples import sample_network


@pytest.fixture
def networks(ctx: Context) -> NetworkStore:
    return ctx.networks


def test_no_home_means_no_networks(networks: NetworkStore) -> None:
    shutil.rmtree(networks.layout.home)
    assert networks.names() == []
    assert networks.all() == {}


def test_what_is_saved_is_found_again(networks: NetworkStore) -> None:
    lab = sample_network("lab", internet=False, twin="other", labels={"role": "front ä"})
    networks.save(lab)
    assert networks.load("lab") == lab
    assert networks.names() == ["lab"]


def test_a_taken_name_is_refused_and_its_network_untouched(networks: NetworkStore) -> None:
    networks.save(sample_network())
    with pytest.raises(AlreadyExists) as caught:
        networks.save(sample_network(subnet="10.77.9.0/24"))
    assert caught.value.code == "network-exists"
    assert networks.load("lab") == sample_network()


@pytest.mark.parametrize(("name", "error"), [("lab", NotFound), ("../x", InvalidInput), ("", InvalidInput)])
def test_what_is_not_there_is_not_found(networks: NetworkStore, name: str, error: type[AppcatError]) -> None:
    for attempt in (networks.load, networks.remove):
        with pytest.raises(error):
            attempt(name)


def test_a_near_miss_is_told(networks: NetworkStore) -> None:
    networks.save(sample_network("laboratory"))
    with pytest.raises(NotFound) as caught:
        networks.load("labratory")
    assert caught.value.hint == "did you mean laboratory?"


def test_none_is_nothing_to_be_made(networks: NetworkStore) -> None:
    with pytest.raises(NotFound) as caught:
        networks.load("none")
    assert "stands for no network" in caught.value.hint


def test_removed_is_gone(networks: NetworkStore) -> None:
    networks.save(sample_network())
    networks.remove("lab")
    assert names_in(networks.layout.networks) == []


def test_what_is_no_network_is_left_out(networks: NetworkStore) -> None:
    networks.save(sample_network())
    for name in (".lab.json.123.tmp", "notes.txt", "UPPER.json", "lab2"):
        (networks.layout.networks / name).touch()
    assert networks.names() == ["lab"]


def document(**changes: object) -> bytes:
    return json.dumps({"schema": 1, **codec.encode(sample_network()), **changes}).encode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        document()[:20],
        document(schema=2),
        document(name="other"),
        document(colour="red"),
        document(subnet="10.77.0.0"),
        document(subnet="8.8.8.0/24"),
        document(subnet="010.77.0.0/24"),
        document(twin="../x"),
        document(internet="yes"),
    ],
)
def test_damaged_one_is_broken_with_the_reason_and_harms_no_other(networks: NetworkStore, content: bytes) -> None:
    for name in ("lab", "other"):
        networks.save(sample_network(name))
    networks.layout.network("lab").write_bytes(content)
    with pytest.raises(Broken) as caught:
        networks.load("lab")
    assert caught.value.message.startswith("lab.json")
    assert caught.value.hint
    found = networks.all()
    assert isinstance(found["lab"], Broken)
    assert found["other"] == sample_network("other")
    networks.remove("lab")
    assert networks.names() == ["other"]
