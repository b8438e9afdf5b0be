"""What the host's service manager (systemd for users, launchd) starts after a reboot: the keeper, or the daemon.

One of them at a time: the daemon is a keeper with doors, so installing one takes the other's unit away.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from appcat import command
from appcat.errors import AppcatError, Unavailable, from_os_error
from appcat.model.host import System, host_system
from appcat.services.context import Context
from appcat.store.files import unlink, write_atomic

ENVIRONMENT = ("APPCAT_HOME", "APPCAT_CACHE", "APPCAT_ACCELERATOR")
SERVICE = "--service"


@dataclass(frozen=True)
class Service:
    """Something to run for this user: ``python -m module``. ``for_good``: also after it ended without a fault."""

    name: str
    module: str
    for_good: bool

    @property
    def unit(self) -> str:
        """Its name for systemd."""
        return f"appcat-{self.name}.service"

    @property
    def agent(self) -> str:
        """Its name for launchd."""
        return f"org.appcat.{self.name}"

    def command(self, *options: str) -> list[str]:
        """The command that runs it in the foreground, by this very interpreter."""
        return [sys.executable, "-m", self.module, *options]


KEEPER = Service("keeper", "appcat.keeper", for_good=True)
DAEMON = Service("daemon", "appcat.daemon", for_good=False)  # 'daemon stop' ends it without a fault
SERVICES = (KEEPER, DAEMON)


def install(ctx: Context, service: Service, *options: str) -> Path:
    """Have ``service`` started after a host reboot, and now, in place of the other; returns the service's file.

    Raises Unavailable where there is no service manager for users, CommandError when it refuses.
    """
    path = service_file(service)
    text = (systemd_unit if _is_linux() else launchd_agent)(service, environment(ctx), *options)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise from_os_error(error, f"installing the {service.name}") from error
    write_atomic(path, text, 0o644)
    try:
        for line in _enabling(service, path):
            command.run(line)
    except AppcatError:
        unlink(path)
        raise
    for other in SERVICES:
        if other is not service:
            uninstall(other)
    return path


def uninstall(service: Service) -> bool:
    """Undo ``install``; False when it was not installed. Running vms are left alone."""
    path = service_file(service)
    if not path.exists():
        return False
    for line in _disabling(service, path):
        command.run(line)
    unlink(path)
    return True


def restart(service: Service) -> None:
    """Have the service manager end it and start it again; raises CommandError when it refuses."""
    target = f"gui/{os.getuid()}/{service.agent}"
    restarting = ["systemctl", "--user", "restart", service.unit]
    command.run(restarting if _is_linux() else ["launchctl", "kickstart", "-k", target])


def systemd_unit(service: Service, settings: dict[str, str], *options: str) -> str:
    """The systemd user unit. ``KillMode=process``: stopping the service must not end the vms it has started."""
    lines = "".join(f"Environment={_systemd_quote(f'{key}={value}')}\n" for key, value in settings.items())
    words = service.command(SERVICE, *options)
    exec_start = " ".join(_systemd_quote(word).replace("$", "$$") for word in words)
    again = "always" if service.for_good else "on-failure"
    return (
        f"[Unit]\nDescription=appcat {service.name}\n\n"
        f"[Service]\nExecStart={exec_start}\n{lines}KillMode=process\nRestart={again}\nRestartSec=5\n\n"
        "[Install]\nWantedBy=default.target\n"
    )


def launchd_agent(service: Service, settings: dict[str, str], *options: str) -> str:
    """The launchd property list (macOS; not tested there)."""
    from xml.sax.saxutils import escape

    words = "".join(f"<string>{escape(word)}</string>" for word in service.command(SERVICE, *options))
    lines = "".join(f"<key>{escape(k)}</key><string>{escape(v)}</string>" for k, v in settings.items())
    again = "<true/>" if service.for_good else "<dict><key>SuccessfulExit</key><false/></dict>"
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">\n'
        f'<plist version="1.0"><dict>\n<key>Label</key><string>{service.agent}</string>\n'
        f"<key>ProgramArguments</key><array>{words}</array>\n"
        f"<key>EnvironmentVariables</key><dict>{lines}</dict>\n"
        f"<key>RunAtLoad</key><true/><key>KeepAlive</key>{again}<key>AbandonProcessGroup</key><true/>\n"
        "</dict></plist>\n"
    )


def _systemd_quote(word: str) -> str:
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") + '"'


def environment(ctx: Context) -> dict[str, str]:
    """What makes the service look after this home; PATH, since that is where QEMU is found."""
    kept = {key: os.environ[key] for key in ENVIRONMENT if key in os.environ}
    return (
        {"PATH": os.environ.get("PATH", os.defpath), **kept, "APPCAT_HOME": str(ctx.layout.home)}
        if kept
        else {"PATH": os.environ.get("PATH", os.defpath)}
    )


def _is_linux() -> bool:
    return host_system(sys.platform) is System.LINUX


def service_file(service: Service) -> Path:
    """Where this host keeps the service; raises Unavailable where nobody would read it."""
    if not _is_linux():
        return Path.home() / "Library" / "LaunchAgents" / f"{service.agent}.plist"
    if not shutil.which("systemctl"):
        raise Unavailable(
            f"there is no systemd here to start the {service.name} after a reboot",
            hint=f"have your own service manager run: {shlex.join(service.command(SERVICE))}",
        )
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "systemd" / "user" / service.unit


def _enabling(service: Service, path: Path) -> list[list[str]]:
    if _is_linux():
        return [["systemctl", "--user", "daemon-reload"], ["systemctl", "--user", "enable", "--now", service.unit]]
    return [["launchctl", "load", "-w", str(path)]]


def _disabling(service: Service, path: Path) -> list[list[str]]:
    if _is_linux():
        return [["systemctl", "--user", "disable", "--now", service.unit]]
    return [["launchctl", "unload", "-w", str(path)]]
