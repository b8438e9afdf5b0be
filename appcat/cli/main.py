"""``appcat``: the root command, and how errors leave it."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import sys
from typing import Annotated, Any, NoReturn

import typer

from appcat.cli import anywhere
from appcat.cli.complete import complete_context
from appcat.cli.lazy import group_of
from appcat.errors import AppcatError, InvalidInput, from_os_error

# What is made while modules are loaded stays: looking for garbage in it would cost a tenth of a command's start.
gc.set_threshold(100_000)

INTERRUPTED = 130


def _print_version(wanted: bool) -> None:
    if wanted:
        from appcat import __version__

        print(f"appcat {__version__}")
        raise typer.Exit


def _options(
    debug: Annotated[
        bool,
        typer.Option(
            anywhere.DEBUG, help="Show the programs that are run and the monitor's talk; anywhere on the line."
        ),
    ] = False,
    host: Annotated[
        str, typer.Option(anywhere.HOST, help="Work with the daemon at this URL; anywhere on the line.", metavar="URL")
    ] = "",
    context: Annotated[
        str,
        typer.Option(
            anywhere.CONTEXT,
            help="Work with this context (see context list); anywhere on the line.",
            metavar="NAME",
            autocompletion=complete_context,
        ),
    ] = "",
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    pass


root = group_of(
    "A data center on a laptop: minimal-OS virtual machines under QEMU.",
    {
        "vm": "appcat.cli.vm",
        "network": "appcat.cli.network",
        "template": "appcat.cli.template",
        "docker": "appcat.cli.docker",
        "config": "appcat.cli.config",
        "context": "appcat.cli.context",
        "hosts": "appcat.cli.hosts:hosts",
        "inventory": "appcat.cli.inventory:inventory",
        "events": "appcat.cli.events:events",
        "operation": "appcat.cli.operation",
        "keeper": "appcat.cli.keeper",
        "daemon": "appcat.cli.daemon",
        "doctor": "appcat.cli.doctor:doctor",
        "completion": "appcat.cli.completion:completion",
        "uninstall": "appcat.cli.uninstall:uninstall",
        "version": "appcat.cli.version:version",
        "vmpower": "appcat.cli.vmpower",
        "guest": "appcat.cli.guest",
    },
    _options,
)
root.name = "appcat"


def main() -> None:
    """Run the command line; the exit status tells the kind of error (``appcat.errors``)."""
    _have_streams()
    try:
        arguments = anywhere.take(sys.argv[1:])
        _prepare_process()
        status = _run(arguments)
        # It has done its work: an interrupt while Python ends would only turn its status into a lie.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    except KeyboardInterrupt:
        status = INTERRUPTED
    except AppcatError as error:
        _leave(error)
    except OSError as error:
        _leave(from_os_error(error, "talking to the system"))
    except Exception as error:
        logging.getLogger("appcat").debug("internal error", exc_info=True)
        hint = "please report it, with 'appcat doctor --bundle FILE' and what --debug prints"
        _leave(AppcatError(f"appcat has a fault: {type(error).__name__}: {error}", hint=hint, code="internal"))
    sys.exit(status)


def _run(arguments: list[str]) -> int:
    if "_APPCAT_COMPLETE" in os.environ:
        import importlib

        _take_from_shell()
        importlib.import_module("typer.completion").completion_init()
    try:
        return int(root.main(arguments, prog_name="appcat", standalone_mode=False) or 0)
    except typer.Abort:
        return INTERRUPTED
    except Exception as error:
        # click's own errors; typer carries a copy of click or imports it, so there is no one class to name.
        if not hasattr(error, "format_message"):
            raise
        raise _usage_error(error) from error


def _take_from_shell() -> None:
    """Where the line that a shell wants completed says for which appcat it is, names come from that one."""
    for variable in ("COMP_WORDS", "_TYPER_COMPLETE_ARGS"):
        with contextlib.suppress(InvalidInput):
            anywhere.take(os.environ.get(variable, "").split()[:-1])


def _usage_error(error: Any) -> AppcatError:
    context: Any = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":
        print(error.format_message())
        sys.exit(InvalidInput.exit_code)
    message, _, suggestion = error.format_message().rstrip(".?").partition(". Did you mean ")
    hint = f"did you mean {suggestion}?" if suggestion else ""
    help_line = f"see '{context.command_path} --help'" if context else "see 'appcat --help'"
    return InvalidInput(" ".join(message.split()), hint=hint or help_line, code="usage")


def _have_streams() -> None:
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115


def _prepare_process() -> None:
    """Private files, a quiet end on SIGTERM, and the words of libraries kept to ourselves."""
    os.umask(0o077)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    level = logging.DEBUG if os.environ.get("APPCAT_LOG") == "debug" else logging.CRITICAL
    logging.basicConfig(level=level, format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)


def _leave(error: AppcatError) -> NoReturn:
    from appcat.cli.output import print_error

    before_command = sys.argv[1:] if "--" not in sys.argv else sys.argv[1 : sys.argv.index("--")]
    print_error(error, as_json="--json" in before_command)
    sys.exit(error.exit_code)
