from __future__ import annotations

import pytest

from appcat.cli.anywhere import take
from appcat.errors import InvalidInput

OLD = {"APPCAT_HOST": "https://old:1", "APPCAT_CONTEXT": "old"}


@pytest.mark.parametrize(
    ("line", "left", "environ"),
    [
        ("vm list", "vm list", OLD),
        ("--debug vm list", "vm list", {**OLD, "APPCAT_LOG": "debug"}),
        ("--host ssh://x vm list", "vm list", {"APPCAT_HOST": "ssh://x"}),
        ("vm list --host ssh://x", "vm list", {"APPCAT_HOST": "ssh://x"}),
        ("vm --host=ssh://x list", "vm list", {"APPCAT_HOST": "ssh://x"}),
        ("vm list --context build", "vm list", {"APPCAT_CONTEXT": "build"}),
        ("inventory --host web", "inventory --host web", OLD),
        ("inventory --host=web --list", "inventory --host=web --list", OLD),
        ("inventory --host ssh://x", "inventory", {"APPCAT_HOST": "ssh://x"}),
        ("--host ssh://x inventory --host web", "inventory --host web", {"APPCAT_HOST": "ssh://x"}),
        ("--context build inventory --host web", "inventory --host web", {"APPCAT_CONTEXT": "build"}),
        ("vm show inventory --host web", "vm show inventory", {"APPCAT_HOST": "web"}),
        ("vm list --context=local -q", "vm list -q", {"APPCAT_CONTEXT": "local"}),
        ("--host ssh://x --host ssh://y vm list", "vm list", {"APPCAT_HOST": "ssh://y"}),
        ("vm exec web -- ls --host x --debug", "vm exec web -- ls --host x --debug", OLD),
        ("vm list --host", "vm list --host", OLD),
    ],
)
def test_options_that_stand_anywhere(line: str, left: str, environ: dict[str, str]) -> None:
    found = dict(OLD)
    assert take(line.split(), found) == left.split()
    assert found == environ


@pytest.mark.parametrize("words", [["--host", "ssh://x", "--context", "y"], ["--host="], ["--context", ""]])
def test_a_choice_that_is_none_is_refused_and_does_not_mean_this_computer(words: list[str]) -> None:
    with pytest.raises(InvalidInput):
        take([*words, "vm", "list"], {})
