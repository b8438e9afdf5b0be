"""``appcat vm ...``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from appcat.model.vm import RestartPolicy

if TYPE_CHECKING:
    from appcat.services.context import Context

app = typer.Typer(help="Virtual machines.", no_args_is_help=True)

WEEK = 7 * 24 * 3600.0

Name = Annotated[str, typer.Argument(help="The vm's name.", show_default=False)]
Names = Annotated[list[str], typer.Argument(help="Names of vms.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Template = Annotated[str, typer.Option("--template", "-t", help="The template to make it from.")]
Cpus = Annotated[int | None, typer.Option("--cpus", help="Virtual CPUs.", show_default="the template's")]
Memory = Annotated[
    str | None, typer.Option("--memory", "-m", help="Memory, such as 512M or 2G.", show_default="the template's")
]
DiskSize = Annotated[
    str | None, typer.Option("--disk", help="Add a data disk of this size, such as 2G; the guest mounts it at /data.")
]
Publish = Annotated[
    list[str] | None,
    typer.Option("--publish", "-p", help="Forward a host port: [ADDRESS:]HOST:GUEST[/udp]. May be repeated."),
]
Label = Annotated[list[str] | None, typer.Option("--label", "-l", help="KEY=VALUE. May be repeated.")]
Restart = Annotated[RestartPolicy, typer.Option("--restart", help="What to do when it ends by itself.")]
Autostart = Annotated[bool, typer.Option("--autostart", help="Bring it back after a host reboot (keeper install).")]
Command = Annotated[list[str] | None, typer.Argument(help="A command, after --.", show_default=False)]
StartWait = Annotated[float, typer.Option("--timeout", min=0.1, max=WEEK, help="Seconds to wait for the guest.")]
StopWait = Annotated[float, typer.Option("--timeout", min=0.1, max=WEEK, help="Seconds the guest may take.")]
ExecWait = Annotated[float | None, typer.Option("--timeout", min=0.1, max=WEEK, help="Seconds until it is ended.")]


@app.command()
def create(
    name: Name,
    template: Template = "pico",
    cpus: Cpus = None,
    memory: Memory = None,
    disk: DiskSize = None,
    publish: Publish = None,
    label: Label = None,
    restart: Restart = RestartPolicy.NO,
    autostart: Autostart = False,
    as_json: Json = False,
) -> None:
    """Create a vm and leave it powered off."""
    from appcat.app import App
    from appcat.cli.output import print_json, progress, say
    from appcat.cli.request import create_request
    from appcat.services.create import create as create_vm
    from appcat.services.describe import describe
    from appcat.services.observe import show as show_vm

    request = create_request(name, template, cpus, memory, disk, publish, label, restart, autostart)
    with progress() as report:
        ctx = App.load(report).context
        create_vm(ctx, request)
    if as_json:
        print_json(describe(show_vm(ctx, name)))
    else:
        say(name)


@app.command()
def run(
    name: Name,
    command: Command = None,
    template: Template = "pico",
    cpus: Cpus = None,
    memory: Memory = None,
    disk: DiskSize = None,
    publish: Publish = None,
    label: Label = None,
    restart: Restart = RestartPolicy.NO,
    autostart: Autostart = False,
    timeout: StartWait = 180.0,
    as_json: Json = False,
) -> None:
    """Create a vm, start it, wait for its guest, and run a command in it.

    The vm goes on running afterwards; the exit status is the command's.
    """
    from appcat.app import App
    from appcat.cli.output import print_json, progress, say
    from appcat.cli.request import create_request
    from appcat.services.describe import describe
    from appcat.services.observe import show as show_vm
    from appcat.services.run import run as run_vm

    request = create_request(name, template, cpus, memory, disk, publish, label, restart, autostart)
    with progress() as report:
        ctx = App.load(report).context
        run_vm(ctx, request, ready_within=timeout)
    if as_json and not command:
        print_json(describe(show_vm(ctx, name)))
    elif not command:
        say(name)
    if not command:
        return
    from appcat.cli.execute import run_command

    raise typer.Exit(run_command(ctx, name, command))


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List all vms."""
    from appcat.app import App
    from appcat.cli.output import print_json
    from appcat.cli.vm_view import print_list
    from appcat.services.describe import describe
    from appcat.services.keeping import ensure_keeper
    from appcat.services.observe import list_vms

    ctx = App.load().context
    found = list_vms(ctx)
    ensure_keeper(ctx, found)
    if as_json:
        print_json([describe(seen) for seen in found])
    else:
        print_list(found)


@app.command()
def show(name: Name, as_json: Json = False) -> None:
    """Show all about one vm: state, resources, why it last stopped, where its logs are."""
    from appcat.app import App
    from appcat.cli.output import print_json
    from appcat.cli.vm_view import print_details
    from appcat.services.describe import describe_fully
    from appcat.services.keeping import ensure_keeper
    from appcat.services.observe import show as show_vm

    ctx = App.load().context
    seen = show_vm(ctx, name)
    ensure_keeper(ctx, [seen])
    details = describe_fully(ctx, seen)
    if as_json:
        print_json(details)
    else:
        print_details(details)


@app.command()
def start(
    names: Names,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Do not wait for the guest.")] = False,
    timeout: StartWait = 180.0,
    as_json: Json = False,
) -> None:
    """Start vms and wait until their guests answer."""
    from appcat.cli.several import for_each
    from appcat.services.start import start as start_vm

    within = None if no_wait else timeout
    for_each(
        names,
        lambda ctx, name: not start_vm(ctx, name, ready_within=within).already,
        "is running already",
        as_json=as_json,
    )


@app.command()
def stop(
    names: Names,
    timeout: StopWait = 60.0,
    as_json: Json = False,
) -> None:
    """Ask guests to power off, and wait until they have."""
    from appcat.cli.several import for_each
    from appcat.services.stop import stop as stop_vm

    for_each(names, lambda ctx, name: stop_vm(ctx, name, timeout=timeout), "is stopped already", as_json=as_json)


@app.command()
def kill(names: Names, as_json: Json = False) -> None:
    """End vms at once, as if the power was cut."""
    from appcat.cli.several import for_each
    from appcat.services.stop import kill as kill_vm

    for_each(names, kill_vm, "is stopped already", as_json=as_json)


@app.command()
def delete(
    names: Names,
    force: Annotated[bool, typer.Option("--force", "-f", help="End running vms; remove broken ones.")] = False,
    as_json: Json = False,
) -> None:
    """Delete vms with all their data."""
    from appcat.cli.several import for_each
    from appcat.services.delete import delete as delete_vm

    def delete_one(ctx: Context, name: str) -> bool:
        delete_vm(ctx, name, force=force)
        return True

    for_each(names, delete_one, "", as_json=as_json)


@app.command("exec")
def exec_(
    name: Name,
    command: Annotated[list[str], typer.Argument(help="The command, after --.", show_default=False)],
    timeout: ExecWait = None,
) -> None:
    """Run a command in a guest; its streams and exit status are passed on."""
    from appcat.app import App
    from appcat.cli.execute import run_command

    raise typer.Exit(run_command(App.load().context, name, command, timeout))


@app.command()
def ssh(name: Name, command: Command = None) -> None:
    """Log in to a guest with ssh."""
    import os

    from appcat import command as programs
    from appcat.app import App
    from appcat.services.execute import ssh_command

    argv = ssh_command(App.load().context, name, command or ())
    os.execv(programs.find(argv[0]), argv)
