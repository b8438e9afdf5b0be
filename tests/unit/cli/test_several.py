from __future__ import annotations

import json
from pathlib import Path

import pytest

from appcat.app import App
from appcat.cli.several import for_each
from appcat.engine import Engine
from appcat.errors import Busy, NotFound


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("APPCAT_HOME", str(tmp_path))
    return tmp_path


def act(_appcat: Engine, name: str) -> bool:
    """Changes what begins with an ``a``, has nothing to do for the rest."""
    match name:
        case "gone":
            raise NotFound("there is no vm 'gone'")
        case "busy":
            raise Busy("busy is busy")
    return name.startswith("a")


def test_each_outcome_is_told_in_the_order_given(capsys: pytest.CaptureFixture[str]) -> None:
    for_each(["b", "a1", "c", "a2"], act, "was there", as_json=False)
    assert capsys.readouterr().out.splitlines() == ["b was there", "a1", "c was there", "a2"]


def test_all_work_on_the_home_that_the_environment_names(home: Path) -> None:
    seen = []

    def note_home(appcat: Engine, name: str) -> bool:
        assert isinstance(appcat, App)
        seen.append((name, appcat.context.layout.home))
        return True

    for_each(["a", "b"], note_home, "", as_json=False)
    assert sorted(seen) == [("a", home), ("b", home)]


def test_a_name_given_twice_is_worked_on_once(capsys: pytest.CaptureFixture[str]) -> None:
    for_each(["a1", "a2", "a1"], act, "", as_json=False)
    assert capsys.readouterr().out.splitlines() == ["a1", "a2"]


def test_failures_are_all_told_and_keep_nobody_else_from_being_done(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        for_each(["a1", "gone", "busy", "a2"], act, "", as_json=False)
    said = capsys.readouterr()
    assert caught.value.code == NotFound.exit_code
    assert said.out.splitlines() == ["a1", "a2"]
    assert said.err.splitlines() == ["Error: there is no vm 'gone'", "Error: busy is busy"]


def test_programs_get_results_and_failures_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        for_each(["a1", "gone", "b"], act, "", as_json=True)
    said = capsys.readouterr()
    assert json.loads(said.out) == [{"name": "a1", "changed": True}, {"name": "b", "changed": False}]
    assert json.loads(said.err)["code"] == "not-found"
