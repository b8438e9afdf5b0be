"""``appcat``: the root command, and how errors leave it."""

from __future__ import annotations

import logging
import os
import signal
import sys
from typing import NoReturn

import typer

from appcat.cli import keeper, template, vm
from appcat.errors import AppcatError, from_os_error

app = typer.Typer(
    name="appcat",
    help="A data center on a laptop: minimal-OS virtual machines under QEMU.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(vm.app, name="vm")
app.add_typer(template.app, name="template")
app.add_typer(keeper.app, name="keeper")


@app.command()
def version(
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Print the version of appcat."""
    from appcat import __version__

    print(f'{{"version": "{__version__}"}}' if as_json else f"appcat {__version__}")


@app.command()
def doctor(
    as_json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Check that this host has what appcat needs, and say what to do where it does not."""
    from appcat.cli.doctor import run_doctor

    raise typer.Exit(run_doctor(as_json))


def main() -> None:
    """Run the command line; the exit status tells the kind of error (``appcat.errors``)."""
    _prepare_process()
    try:
        status = app()
    except AppcatError as error:
        _leave(error)
    except OSError as error:
        _leave(from_os_error(error, "talking to the system"))
    except Exception as error:
        logging.getLogger("appcat").debug("internal error", exc_info=True)
        hint = "please report it, with what APPCAT_LOG=debug prints"
        _leave(AppcatError(f"appcat has a fault: {type(error).__name__}: {error}", hint=hint, code="internal"))
    sys.exit(status)


def _prepare_process() -> None:
    """Private files, a quiet end on SIGTERM, streams that exist, and the words of libraries kept to ourselves."""
    os.umask(0o077)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115
    level = logging.DEBUG if os.environ.get("APPCAT_LOG") == "debug" else logging.CRITICAL
    logging.basicConfig(level=level, format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)


def _leave(error: AppcatError) -> NoReturn:
    from appcat.cli.output import print_error

    before_command = sys.argv[1:] if "--" not in sys.argv else sys.argv[1 : sys.argv.index("--")]
    print_error(error, as_json="--json" in before_command)
    sys.exit(error.exit_code)
