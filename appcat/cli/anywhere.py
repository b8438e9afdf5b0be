"""Options that stand anywhere on the line before ``--``: ``--debug``, ``--host URL``, ``--context NAME``.

They are taken off the line before commands see it, and put into the environment, where they replace what is there: so
they hold for what this process starts as well.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping

from appcat.errors import InvalidInput

DEBUG, HOST, CONTEXT = "--debug", "--host", "--context"
VARIABLES = {HOST: "APPCAT_HOST", CONTEXT: "APPCAT_CONTEXT"}


def take(arguments: list[str], environ: MutableMapping[str, str] = os.environ) -> list[str]:
    """What is left of the line; raises InvalidInput for options that contradict each other or say nothing."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    words, command = arguments[:end], arguments[end:]
    if DEBUG in words:
        environ["APPCAT_LOG"] = "debug"
    left, given = _take_values([word for word in words if word != DEBUG])
    if len(given) > 1:
        raise InvalidInput("--host and --context both say where", hint="give one of them", code="usage")
    for option, value in given.items():
        if not value:
            raise InvalidInput(f"{option} says nothing", hint="see 'appcat context list'", code="usage")
        for variable in VARIABLES.values():
            environ.pop(variable, None)
        environ[VARIABLES[option]] = value
    return left + command


def _take_values(words: list[str]) -> tuple[list[str], dict[str, str]]:
    """The words without these options, and what they say; one that ends the line is left for click to refuse."""
    left: list[str] = []
    given: dict[str, str] = {}
    rest = iter(words)
    for word in rest:
        option, equals, value = word.partition("=")
        spelled = [word]
        if option in VARIABLES and not equals and (following := next(rest, None)) is not None:
            value = following
            spelled.append(following)
        if option not in VARIABLES or spelled == [option] or _is_for_ansible(left, option, value):
            left += spelled
        else:
            given[option] = value
    return left, given


def _is_for_ansible(before: list[str], option: str, value: str) -> bool:
    """``inventory --host NAME`` is how Ansible asks a script for one host; whoever means a daemon gives a URL."""
    command = next((word for word in before if not word.startswith("-")), "")
    return (command, option) == ("inventory", HOST) and "://" not in value
