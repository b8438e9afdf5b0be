"""Starting the keeper on demand, and having the host's service manager start it after a reboot."""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from xml.sax.saxutils import escape

from appcat import command
from appcat.errors import AppcatError, Unavailable, from_os_error
from appcat.model.host import System, host_system
from appcat.model.status import Observation, Status
from appcat.services.context import Context
from appcat.store import locks
from appcat.store.files import unlink, write_atomic

log = logging.getLogger(__name__)

UNIT = "appcat-keeper.service"
AGENT = "org.appcat.keeper"
ENVIRONMENT = ("APPCAT_HOME", "APPCAT_CACHE", "APPCAT_ACCELERATOR")


def is_running(ctx: Context) -> bool:
    """Whether a keeper watches over this home."""
    return locks.is_held(ctx.layout.keeper_lock)


def ensure(ctx: Context) -> None:
    """Start a keeper in the background unless there is one. A failure is logged: vms run without it."""
    try:
        if not is_running(ctx):
            _spawn(ctx)
    except (OSError, AppcatError) as error:
        log.warning("the keeper could not be started: %s", error)


def ensure_keeper(ctx: Context, seen: list[Observation]) -> None:
    """Start a keeper if one is missing where any of the vms just ``seen`` needs it: whoever comes next carries on."""
    if any(vm.status not in (Status.STOPPED, Status.BROKEN) for vm in seen):
        ensure(ctx)


def _spawn(ctx: Context) -> None:
    with ctx.layout.keeper_log.open("ab") as output:
        subprocess.Popen(
            keeper_command(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd="/",
            env={**os.environ, "APPCAT_HOME": str(ctx.settings.home), "APPCAT_CACHE": str(ctx.settings.cache)},
        )


def keeper_command(*options: str) -> list[str]:
    """The command that runs a keeper in the foreground, by this very interpreter."""
    return [sys.executable, "-m", "appcat.keeper", *options]


def install(ctx: Context) -> Path:
    """Have the keeper, and with it the ``--autostart`` vms, started after a host reboot; returns the service's file.

    Raises Unavailable where there is no service manager for users, CommandError when it refuses.
    """
    path = _service_file(ctx)
    text = systemd_unit(_environment(ctx)) if _is_linux() else launchd_agent(_environment(ctx))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise from_os_error(error, "installing the keeper") from error
    write_atomic(path, text, 0o644)
    try:
        for line in _enabling(path):
            command.run(line)
    except AppcatError:
        unlink(path)
        raise
    return path


def uninstall(ctx: Context) -> bool:
    """Undo ``install``; False when it was not installed. Running vms are left alone."""
    path = _service_file(ctx)
    if not path.exists():
        return False
    for line in _disabling(path):
        command.run(line)
    unlink(path)
    return True


def systemd_unit(environment: dict[str, str]) -> str:
    """The systemd user unit. ``KillMode=process``: stopping the keeper must not end the vms it has started."""
    settings = "".join(f"Environment={_systemd_quote(f'{key}={value}')}\n" for key, value in environment.items())
    exec_start = " ".join(_systemd_quote(word).replace("$", "$$") for word in keeper_command("--service"))
    return (
        "[Unit]\nDescription=appcat keeper\n\n"
        f"[Service]\nExecStart={exec_start}\n{settings}KillMode=process\nRestart=always\nRestartSec=5\n\n"
        "[Install]\nWantedBy=default.target\n"
    )


def launchd_agent(environment: dict[str, str]) -> str:
    """The launchd property list (macOS; not tested there)."""
    words = "".join(f"<string>{escape(word)}</string>" for word in keeper_command("--service"))
    settings = "".join(f"<key>{escape(k)}</key><string>{escape(v)}</string>" for k, v in environment.items())
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">\n'
        f'<plist version="1.0"><dict>\n<key>Label</key><string>{AGENT}</string>\n'
        f"<key>ProgramArguments</key><array>{words}</array>\n"
        f"<key>EnvironmentVariables</key><dict>{settings}</dict>\n"
        "<key>RunAtLoad</key><true/><key>KeepAlive</key><true/><key>AbandonProcessGroup</key><true/>\n"
        "</dict></plist>\n"
    )


def _systemd_quote(word: str) -> str:
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") + '"'


def _environment(ctx: Context) -> dict[str, str]:
    """What makes the service's keeper look after this home; PATH, since that is where QEMU is found."""
    kept = {key: os.environ[key] for key in ENVIRONMENT if key in os.environ}
    return (
        {"PATH": os.environ.get("PATH", os.defpath), **kept, "APPCAT_HOME": str(ctx.layout.home)}
        if kept
        else {"PATH": os.environ.get("PATH", os.defpath)}
    )


def _is_linux() -> bool:
    return host_system(sys.platform) is System.LINUX


def _service_file(_ctx: Context) -> Path:
    if not _is_linux():
        return Path.home() / "Library" / "LaunchAgents" / f"{AGENT}.plist"
    if not shutil.which("systemctl"):
        raise Unavailable(
            "there is no systemd here to start the keeper after a reboot",
            hint=f"have your own service manager run: {shlex.join(keeper_command('--service'))}",
        )
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "systemd" / "user" / UNIT


def _enabling(path: Path) -> list[list[str]]:
    if _is_linux():
        return [["systemctl", "--user", "daemon-reload"], ["systemctl", "--user", "enable", "--now", UNIT]]
    return [["launchctl", "load", "-w", str(path)]]


def _disabling(path: Path) -> list[list[str]]:
    if _is_linux():
        return [["systemctl", "--user", "disable", "--now", UNIT]]
    return [["launchctl", "unload", "-w", str(path)]]
