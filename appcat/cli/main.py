"""``appcat``: the root command, and how errors leave it."""

from __future__ import annotations

import os
import sys

import typer

from appcat.cli import keeper, template, vm
from appcat.errors import AppcatError

app = typer.Typer(
    name="appcat",
    help="A data center on a laptop: minimal-OS virtual machines under QEMU.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
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
    try:
        status = app(standalone_mode=True)
    except AppcatError as error:
        from appcat.cli.output import print_error

        print_error(error, as_json="--json" in sys.argv[1:])
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader has gone; keep the interpreter from complaining when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        from appcat.cli.output import print_error
        from appcat.errors import from_os_error

        translated = from_os_error(error, "working")
        print_error(translated, as_json="--json" in sys.argv[1:])
        sys.exit(translated.exit_code)
    sys.exit(status)
