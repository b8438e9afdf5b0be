from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from appcat.errors import InvalidInput
from appcat.model import codec
from appcat.model.config import (
    KEYS,
    LONGEST_WAIT,
    SCHEMA,
    Config,
    Key,
    find_key,
    parse_accelerator,
    parse_cpus,
    parse_restart,
    parse_seconds,
)
from appcat.model.vm import RestartPolicy
from appcat.services.config import KIND
from appcat.settings import ENVIRONMENT


def test_variables_are_the_keys_in_capitals() -> None:
    assert Key.variable("start-timeout") == "APPCAT_START_TIMEOUT"
    assert Key.variable("cpus") == "APPCAT_CPUS"


def test_no_key_takes_a_variable_that_means_something_else() -> None:
    taken = {Key.variable(name) for name in KEYS} & set(ENVIRONMENT)
    assert taken <= {"APPCAT_ACCELERATOR"}  # the same thing


def test_every_key_says_what_it_is_for() -> None:
    assert all(key.help for key in KEYS.values())


def test_what_is_written_reads_back_the_same() -> None:
    config = Config({"cpus": "2", "template": "pico", "unknown": "é"})
    text = codec.dumps(config, KIND)
    assert f'"schema": {SCHEMA}' in text
    assert codec.loads(Config, text, KIND) == config


@pytest.mark.parametrize(("text", "seconds"), [("0.1", 0.1), ("1", 1), ("90", 90), ("604800", LONGEST_WAIT)])
def test_times_are_seconds(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0.09", "-1", "604801", "nan", "inf", "-inf", "1e999", "1m", "soon"])
def test_times_that_cannot_be_waited_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_seconds(text)
    assert (caught.value.code, bool(caught.value.hint)) == ("invalid-time", True)


@pytest.mark.parametrize("text", ["", "0", "-1", "+1", "1.0", "1e0", "two", "²", "１", "999999999999999999999"])  # noqa: RUF001
def test_numbers_of_cpus_that_cannot_be_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_cpus(text)
    assert caught.value.code == "invalid-cpus"


def test_a_number_of_cpus_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert parse_cpus("8") == 8
    with pytest.raises(InvalidInput):
        parse_cpus("9")


@pytest.mark.parametrize("policy", RestartPolicy)
def test_restart_policies_are_known_by_their_text(policy: RestartPolicy) -> None:
    assert parse_restart(str(policy)) is policy


@pytest.mark.parametrize("parse", [parse_restart, parse_accelerator])
@pytest.mark.parametrize("text", ["", "never", "KVM", "No", "tcg\n", "x" * 500])
def test_what_is_not_among_the_choices_is_answered_with_them(parse: Callable[[str], object], text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(text)
    assert caught.value.hint.startswith("give one of ")
    assert len(caught.value.message) < 100


@pytest.mark.parametrize("name", ["", "APPCAT_CPUS", "memory ", "Memory", "nothing-like-it"])
def test_a_key_is_known_by_its_very_name(name: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        find_key(name)
    assert caught.value.code == "unknown-setting"
    assert caught.value.hint
