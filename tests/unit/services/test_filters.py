from __future__ import annotations

import pytest

from appcat.errors import InvalidInput
from appcat.model.status import Observation, Status
from appcat.services.filters import Filter, matches, parse_filters
from tests.unit.support.samples import sample_vm

WEB = Observation(
    "web", Status.RUNNING, vm=sample_vm(labels={"role": "front", "note": "a=b", "empty": "", "bare/key": "x"})
)
DB = Observation("db-1", Status.STOPPED, vm=sample_vm("db-1"))
BROKEN = Observation("ruin", Status.BROKEN, "vm.json is missing")
ALL = (WEB, DB, BROKEN)


def names(*texts: str) -> list[str]:
    wanted = parse_filters(list(texts))
    return [seen.name for seen in ALL if matches(seen, wanted)]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([], ["web", "db-1", "ruin"]),
        (["status=running"], ["web"]),
        (["status=stopped"], ["db-1"]),
        (["status=broken"], ["ruin"]),
        (["status=paused"], []),
        (["name=web"], ["web"]),
        (["name=*"], ["web", "db-1", "ruin"]),
        (["name=db-?"], ["db-1"]),
        (["name=[dw]*"], ["web", "db-1"]),
        (["name=[!w]*"], ["db-1", "ruin"]),
        (["name=we"], []),
        (["name=WEB"], []),
        (["template=pico"], ["web", "db-1"]),
        (["template=pic*"], []),
        (["label=role"], ["web"]),
        (["label=role=front"], ["web"]),
        (["label=role=back"], []),
        (["label=role="], []),
        (["label=empty="], ["web"]),
        (["label=empty"], ["web"]),
        (["label=note=a=b"], ["web"]),
        (["label=note=a"], []),
        (["label=bare/key"], ["web"]),
        (["label=nothing"], []),
        (["status=running", "label=role"], ["web"]),
        (["status=running", "name=db*"], []),
        (["status=running,label=role"], ["web"]),
        (["status=running, name=db*"], []),
        (["name=*,template=pico", "status=stopped"], ["db-1"]),
    ],
)
def test_all_filters_must_hold(filters: list[str], expected: list[str]) -> None:
    assert names(*filters) == expected


@pytest.mark.parametrize("text", ["label=role", "template=pico"])
def test_a_broken_vm_has_neither_template_nor_labels(text: str) -> None:
    assert not matches(BROKEN, parse_filters([text]))


def test_several_filters_in_one_text() -> None:
    assert parse_filters(["status=paused,label=a=b", " name=x "]) == [
        Filter("status", "paused"),
        Filter("label", "a=b"),
        Filter("name", "x"),
    ]


@pytest.mark.parametrize(
    "text",
    ["", "running", "status", "status=", "=running", "name=", "label=", "template=", "name=a,", ",", "color=red"],
)
def test_what_is_no_filter_is_refused_with_how_to_write_one(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_filters([text])
    assert caught.value.code == "invalid-filter"
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "meant"),
    [("statsu=running", "status"), ("lable=a", "label"), ("status=runing", "running"), ("status=Paused", "paused")],
)
def test_a_near_miss_is_suggested(text: str, meant: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_filters([text])
    assert caught.value.hint == f"did you mean {meant}?"


def test_an_unknown_status_is_answered_with_all_of_them() -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_filters(["status=zzz"])
    assert all(str(status) in caught.value.hint for status in Status)


def test_no_word_of_the_user_reaches_the_terminal_as_a_sequence() -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_filters(["status=\x1b[2J"])
    assert caught.value.message.isprintable()
