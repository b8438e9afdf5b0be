from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appcat.errors import Broken
from appcat.model import codec
from appcat.model.run import Exit, Run
from appcat.model.vm import Vm
from tests.unit.support.samples import sample_vm


class Colour(StrEnum):
    RED = "red"


@dataclass(frozen=True)
class Inner:
    colour: Colour


@dataclass(frozen=True)
class Thing:
    name: str
    count: int
    weight: float = 0.0
    note: str | None = None
    inner: tuple[Inner, ...] = ()
    extra: dict[str, object] = field(default_factory=dict)


KIND = codec.Kind("thing.json", schema=3, migrations={2: lambda body: {"count": body.pop("number"), **body}})
GOOD = {"schema": 3, "name": "a", "count": 1}


def load(**changes: Any) -> Thing:
    return codec.loads(Thing, json.dumps({**GOOD, **changes}), KIND)


def test_defaults_fill_what_is_left_out() -> None:
    assert load() == Thing("a", 1)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"cuont": 1}, "thing.json: unknown key 'cuont'"),
        ({"name": 5}, "thing.json.name: expected str"),
        ({"name": None}, "thing.json.name: expected str"),
        ({"count": "1"}, "thing.json.count: expected int"),
        ({"count": True}, "thing.json.count: expected int"),
        ({"count": 1.0}, "thing.json.count: expected int"),
        ({"weight": "heavy"}, "thing.json.weight: expected float"),
        ({"inner": {}}, "thing.json.inner: expected a list"),
        ({"inner": [{"colour": "red"}, {}]}, "thing.json.inner[1]: 'colour' is missing"),
        ({"inner": [{"colour": "blue"}]}, "thing.json.inner[0].colour: 'blue' is not one of red"),
        ({"inner": [{"colour": ["red"]}]}, "thing.json.inner[0].colour: ['red'] is not one of red"),
        ({"extra": []}, "thing.json.extra: expected an object"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(Broken) as caught:
        load(**changes)
    assert caught.value.message == complaint


def test_missing_key_is_named() -> None:
    with pytest.raises(Broken, match="'name' is missing"):
        codec.loads(Thing, '{"schema": 3, "count": 1}', KIND)


@pytest.mark.parametrize("text", ["", "{", '{"schema": 3', "nonsense", "[" * 100_000, "\0"])
def test_what_is_not_json_is_refused(text: str) -> None:
    with pytest.raises(Broken, match=r"thing.json is not JSON"):
        codec.loads(Thing, text, KIND)


@pytest.mark.parametrize("text", ["[]", "null", "3", '"text"'])
def test_json_that_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(Broken, match="not a JSON object"):
        codec.loads(Thing, text, KIND)


@pytest.mark.parametrize("schema", [None, "3", 3.0, True, 0, -1])
def test_schema_number_must_be_a_positive_integer(schema: object) -> None:
    with pytest.raises(Broken, match="has no schema number"):
        load(schema=schema)


def test_newer_schema_is_refused_rather_than_cut_down() -> None:
    with pytest.raises(Broken, match=r"newer appcat \(schema 4; this one reads up to 3\)") as caught:
        load(schema=4)
    assert caught.value.hint == "upgrade appcat"


def test_older_schema_is_migrated() -> None:
    assert codec.loads(Thing, '{"schema": 2, "name": "a", "number": 7}', KIND) == Thing("a", 7)


def test_schema_without_a_migration_is_refused() -> None:
    with pytest.raises(Broken, match="has schema 1, which this appcat can no longer read"):
        load(schema=1)


def test_documents_are_stable_and_readable() -> None:
    thing = Thing("ä", 1, inner=(Inner(Colour.RED),))
    assert codec.dumps(thing, KIND) == codec.dumps(codec.loads(Thing, codec.dumps(thing, KIND), KIND), KIND)
    assert '"name": "ä"' in codec.dumps(thing, KIND)
    assert codec.dumps(thing, KIND).endswith("}\n")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
vms = st.builds(Vm, metadata=st.dictionaries(st.text(), json_values))
finite = st.none() | st.floats(allow_nan=False, allow_infinity=False)


@given(vms)
def test_every_vm_survives_the_round_trip(vm: Vm) -> None:
    kind = codec.Kind("vm.json", 1)
    assert codec.loads(Vm, codec.dumps(vm, kind), kind) == vm


@given(st.builds(Run, pid_started=finite) | st.builds(Exit))
def test_every_record_survives_the_round_trip(record: Run | Exit) -> None:
    kind = codec.Kind("run.json", 1)
    assert codec.loads(type(record), codec.dumps(record, kind), kind) == record


@given(st.text())
def test_no_text_does_worse_than_broken(text: str) -> None:
    with pytest.raises(Broken):
        codec.loads(Vm, text, codec.Kind("vm.json", 1))


@given(st.sampled_from(sorted(codec.encode(sample_vm()))), json_values)
def test_no_value_of_any_key_does_worse_than_broken(key: str, value: object) -> None:
    kind = codec.Kind("vm.json", 1)
    document = {"schema": 1, **codec.encode(sample_vm()), key: value}
    try:
        loaded = codec.loads(Vm, json.dumps(document), kind)
    except Broken as error:
        assert key in error.message
    else:
        assert codec.encode(getattr(loaded, key)) == value
