"""Arguments and options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from appcat.cli.complete import complete_joining, complete_label, complete_template, complete_vm
from appcat.model.vm import RestartPolicy

WEEK = 7 * 24 * 3600.0

Name = Annotated[str, typer.Argument(help="The vm's name.", show_default=False, autocompletion=complete_vm)]
Names = Annotated[list[str], typer.Argument(help="Names of vms.", show_default=False, autocompletion=complete_vm)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no results: only errors.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Template = Annotated[
    str | None,
    typer.Option(
        "--template",
        "-t",
        help="The template to make it from.",
        show_default="config, else pico",
        autocompletion=complete_template,
    ),
]
Cpus = Annotated[int | None, typer.Option("--cpus", help="Virtual CPUs.", show_default="config, else the template's")]
Memory = Annotated[
    str | None,
    typer.Option("--memory", "-m", help="Memory, such as 512M or 2G.", show_default="config, else the template's"),
]
Disks = Annotated[
    list[str] | None,
    typer.Option(
        "--disk",
        help="Add a disk: [NAME=]SIZE, such as 2G. The first is 'data', mounted at /data; others need a name.",
    ),
]
Publish = Annotated[
    list[str] | None,
    typer.Option("--publish", "-p", help="Publish a port: PORT or [ADDRESS:]HOST:GUEST[/udp]. May be repeated."),
]
Networks = Annotated[
    list[str] | None,
    typer.Option(
        "--network",
        help="Put it on a network: NAME[:IP]. May be repeated; 'none' for none.",
        show_default="config",
        autocompletion=complete_joining,
    ),
]
Label = Annotated[list[str] | None, typer.Option("--label", "-l", help="KEY=VALUE. May be repeated.")]
Restart = Annotated[
    RestartPolicy | None,
    typer.Option("--restart", help="What to do when it ends by itself.", show_default="config, else no"),
]
Autostart = Annotated[bool, typer.Option("--autostart", help="Bring it back after a host reboot (keeper install).")]
Command = Annotated[list[str] | None, typer.Argument(help="A command, after --.", show_default=False)]
StartWait = Annotated[
    float | None,
    typer.Option(
        "--timeout", min=0.1, max=WEEK, help="Seconds to wait for the guest.", show_default="config, else 180"
    ),
]
StopWait = Annotated[
    float | None,
    typer.Option("--timeout", min=0.1, max=WEEK, help="Seconds the guest may take.", show_default="config, else 60"),
]
Filter = Annotated[
    list[str] | None,
    typer.Option(
        "--filter",
        "-f",
        help="label=KEY[=VALUE], status=STATUS, template=NAME or name=PATTERN. May be repeated; all must hold.",
        autocompletion=complete_label,
    ),
]
