"""Write ``docs/reference.md`` and ``docs/appcat.1`` from the program itself: ``python -m scripts.docs.reference``.

The commands come from the tree that the program really has, the exit statuses from ``appcat.errors``, the environment
from ``appcat.settings`` and ``appcat.model.config``. ``tests/golden/test_reference.py`` compares the result with what
is committed.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
REFERENCE, MAN_PAGE = "docs/reference.md", "docs/appcat.1"

OTHER_STATUSES = {
    0: "All went well.",
    124: "vm exec --timeout ran out.",
    130: "Interrupted: Ctrl-C or SIGTERM.",
    141: "vm exec: nobody reads the output any more.",
}
FILES = {
    "~/.local/share/appcat": "The home: virtual machines, one directory each, their key and the keeper's log.",
    "~/.cache/appcat": "The cache: images and packages. Everything in it can be made again.",
    "/tmp/appcat-UID": "Sockets of running virtual machines.",
}


@dataclass(frozen=True)
class Parameter:
    """An argument or option as its help shows it, defaults included."""

    names: str
    help: str
    is_argument: bool


@dataclass(frozen=True)
class Command:
    """A command that is shown: ``path`` is how it is called, ``paragraphs`` and ``examples`` what its help says."""

    path: str
    usage: str
    paragraphs: tuple[str, ...]
    examples: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    is_group: bool


def root_command() -> Any:
    """The program's command tree, loaded lazily or not."""
    main: Any = importlib.import_module("appcat.cli.main")
    if hasattr(main, "root"):
        return main.root
    import typer

    return typer.main.get_command(main.app)


def commands(command: Any = None, name: str = "appcat", parent: Any = None) -> Iterator[Command]:
    """Every command that is not hidden, groups before what is in them."""
    command = root_command() if command is None else command
    if command.hidden:
        return
    context = command.context_class(command, info_name=name, parent=parent, **command.context_settings)
    paragraphs, examples = split_help(command.help or "")
    is_group = hasattr(command, "list_commands")
    parameters = (_parameter(parameter, context) for parameter in command.get_params(context))
    yield Command(
        context.command_path,
        " ".join([context.command_path, *_usage(command, context)]),
        paragraphs,
        examples,
        tuple(parameter for parameter in parameters if parameter),
        is_group,
    )
    for below in command.list_commands(context) if is_group else ():
        yield from commands(command.get_command(context, below), below, context)


def split_help(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Paragraphs of a help text, each on one line, and the examples that follow a line ``Examples:``."""
    text = inspect.cleandoc(text.split("\f")[0]).replace("\b\n", "").replace("\b", "")
    before, _, after = re.sub(r"(?m)^Examples:[ \t]*$", "\0", text, count=1).partition("\0")
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n\s*\n", before) if part.strip()]
    examples = inspect.cleandoc("\n" + after.strip("\n")).splitlines() if after.strip() else []
    return tuple(paragraphs), tuple(line.rstrip() for line in examples)


def _usage(command: Any, context: Any) -> Iterator[str]:
    """What follows the command in its usage; written here, since versions of typer differ in how they write it."""
    yield "[OPTIONS]"
    yield from (_argument(found) for found in command.get_params(context) if found.param_type_name == "argument")
    if hasattr(command, "list_commands"):
        yield "COMMAND [ARGS]..."


def _parameter(parameter: Any, context: Any) -> Parameter | None:
    record = None if getattr(parameter, "hidden", False) else parameter.get_help_record(context)
    if record is None or "--help" in parameter.opts:
        return None
    is_argument = parameter.param_type_name == "argument"
    names = _argument(parameter) if is_argument else _option(parameter, record[0])
    return Parameter(names, " ".join(record[1].split()), is_argument)


def _argument(parameter: Any) -> str:
    name = str(parameter.metavar or parameter.name).upper().replace("_", "-")
    name += "..." if parameter.nargs == -1 else ""
    return name if parameter.required else f"[{name}]"


def _option(parameter: Any, shown: str) -> str:
    """The option's names, and what it takes: the choices there are, or what its author calls it."""
    names = ", ".join(sorted(parameter.opts, key=len))
    metavar = re.sub(r"^(?:(?:,? ?)--?[\w-]+)+ ?", "", shown).strip("<>[]{}")
    if not metavar:
        return names
    return f"{names} {metavar if '|' in metavar else parameter.metavar or 'VALUE'}"


def statuses() -> dict[int, str]:
    """Exit statuses and what they mean, from the errors' own descriptions."""
    from appcat import errors

    found = dict(OTHER_STATUSES)
    for error in errors.AppcatError.__subclasses__():
        if error.__module__ == errors.__name__:
            meaning = inspect.cleandoc(error.__doc__ or "").splitlines()[0].partition(";")[0].rstrip(".")
            found[error.exit_code] = " ".join(filter(None, [found.get(error.exit_code), f"{meaning}."]))
    found[1] = "Any other error."
    found[2] += " Also wrong options."
    return dict(sorted(found.items()))


def environment() -> dict[str, str]:
    """Variables that appcat reads, and what for."""
    from appcat.settings import ENVIRONMENT

    try:
        from appcat.model.config import KEYS, Key
    except ImportError:
        return dict(ENVIRONMENT)
    configured = {Key.variable(name): f"{key.help[:1].upper()}{key.help[1:]}." for name, key in KEYS.items()}
    return dict(sorted({**configured, **ENVIRONMENT}.items()))


# --- Markdown --------------------------------------------------------------------------------------------------------


def reference() -> str:
    """The text of ``docs/reference.md``."""
    found = list(commands())
    lines = ["# Reference", "", "Made by `scripts/reference` from the program itself; do not edit.", ""]
    lines += [f"- [{command.path}](#{command.path.replace(' ', '-')})" for command in found]
    for command in found:
        lines += _command_markdown(command)
    lines += ["", "## Exit statuses", "", "| status | meaning |", "|---|---|"]
    lines += [f"| {number} | {_cell(text)} |" for number, text in statuses().items()]
    lines += ["", "[errors.md](errors.md) lists the codes that go with them.", "", "## Environment", ""]
    lines += ["| variable | meaning |", "|---|---|"]
    lines += [f"| `{name}` | {_cell(text)} |" for name, text in environment().items()]
    return "\n".join(lines) + "\n"


def _command_markdown(command: Command) -> list[str]:
    lines = ["", f"{'##' if command.is_group else '###'} {command.path}", ""]
    for paragraph in command.paragraphs:
        lines += [_prose(paragraph), ""]
    lines += ["```text", command.usage, "```"]
    for title, wanted in (("argument", True), ("option", False)):
        parameters = [parameter for parameter in command.parameters if parameter.is_argument is wanted]
        if parameters:
            lines += ["", f"| {title} | |", "|---|---|"]
            lines += [f"| `{_cell(parameter.names, True)}` | {_cell(parameter.help)} |" for parameter in parameters]
    if command.examples:
        lines += ["", "```sh", *command.examples, "```"]
    return lines


def _prose(text: str) -> str:
    return re.sub(r"([<>*_\[\]\\])", r"\\\1", text)


def _cell(text: str, is_code: bool = False) -> str:
    return (text if is_code else _prose(text)).replace("|", "\\|")


# --- the man page ----------------------------------------------------------------------------------------------------


def man_page() -> str:
    """The text of ``docs/appcat.1``, in man(7) format."""
    from appcat import __version__

    found = list(commands())
    program = found[0]
    lines = [
        '.\\" Made by scripts/reference from the program itself; do not edit.',
        f'.TH APPCAT 1 "" "appcat {__version__}" "User Commands"',
        *(".SH NAME", f"appcat \\- {_roff(program.paragraphs[0].rstrip('.'))}"),
        *(".SH SYNOPSIS", ".B appcat", _roff(program.usage.removeprefix("appcat").strip())),
        *(".SH DESCRIPTION", *_description(program)),
        ".SH COMMANDS",
    ]
    for command in found[1:]:
        lines += _command_roff(command)
    lines += [".SH ENVIRONMENT", *_definitions(environment())]
    lines += [".SH FILES", *_definitions(FILES)]
    lines += [".SH EXIT STATUS", *_definitions({str(number): text for number, text in statuses().items()})]
    lines += [".SH SEE ALSO", ".BR qemu (1),", ".BR ssh (1)"]
    return "\n".join(lines) + "\n"


def _description(program: Command) -> list[str]:
    lines = [
        _roff("appcat starts minimal-OS virtual machines under QEMU in a few seconds, as an ordinary user."),
        ".PP",
        _roff("Every vm is a directory of files below APPCAT_HOME; there is no database and no daemon."),
        _roff("A vm goes on running when the command that started it ends."),
    ]
    for paragraph in program.paragraphs[1:]:
        lines += [".PP", _roff(paragraph)]
    return [*lines, *_definitions({parameter.names: parameter.help for parameter in program.parameters})]


def _command_roff(command: Command) -> list[str]:
    lines = [f'.SS "{_roff(command.path)}"']
    if not command.is_group:
        lines += [".nf", ".B " + _roff(command.usage), ".fi"]
    for paragraph in command.paragraphs:
        lines += [".PP", _roff(paragraph)]
    lines += _definitions({parameter.names: parameter.help for parameter in command.parameters})
    if command.examples:
        lines += [".PP", "Examples:", ".PP", ".nf", ".RS 4", *map(_roff, command.examples), ".RE", ".fi"]
    return lines


def _definitions(items: dict[str, str]) -> list[str]:
    return [line for term, text in items.items() for line in (".TP", f"\\fB{_roff(term)}\\fR", _roff(text or " "))]


def _roff(text: str) -> str:
    """Plain text that groff prints as it is, wherever on a line it stands."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq").replace("'", "\\(aq")
    return ("\\&" + escaped if escaped[:1] in {".", "'"} else escaped).replace("~", "\\(ti").replace("^", "\\(ha")


def documents() -> dict[str, str]:
    """Every document by its path in the checkout."""
    return {REFERENCE: reference(), MAN_PAGE: man_page()}


def main() -> int:
    """Write the documents that have changed, and say which."""
    for name, text in documents().items():
        path = ROOT / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"written: {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
