"""Where things live on this host, and what the environment overrides.

========  =============================  ==========================================================================
what      default                        why there
========  =============================  ==========================================================================
home      platformdirs' user data dir    the virtual machines: one directory each
cache     platformdirs' user cache dir   images and probe verdicts: everything in it can be made again
runtime   /tmp/appcat-UID/HASH           sockets: short (108-byte limit), and not /run/user, which vanishes at logout
memory    /dev/shm/appcat-UID/HASH       frozen memory of running vms, while there is room; elsewhere it is in home
========  =============================  ==========================================================================

``APPCAT_HOME`` moves home and puts the cache inside it; ``APPCAT_CACHE`` moves the cache alone, so that several homes
can share images. The runtime directory is derived from home, so two homes and two users never meet.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from appcat.errors import InvalidInput

SHM = Path("/dev/shm")

# Variables that appcat reads, for the reference; the keys of ``model.config`` have variables of their own.
ENVIRONMENT = {
    "APPCAT_HOME": "The directory where virtual machines live; the cache goes inside it.",
    "APPCAT_CACHE": "The directory where images live, when several homes are to share them.",
    "APPCAT_HOST": "Work with the daemon at this URL: unix:///PATH, https://HOST:PORT or ssh://USER@HOST.",
    "APPCAT_CONTEXT": "Work with this context, whatever 'appcat context use' says; 'local' is this computer.",
    "APPCAT_TOKEN": "The token that opens the daemon at APPCAT_HOST or --host; better kept in APPCAT_TOKEN_FILE.",
    "APPCAT_TOKEN_FILE": "A file with that token.",
    "APPCAT_FINGERPRINT": "The SHA-256 of the certificate that the daemon at APPCAT_HOST or --host has.",
    "APPCAT_CA_FILE": "The authorities that may have signed its certificate, a PEM file.",
    "APPCAT_ACCELERATOR": "Use this accelerator (kvm, hvf or tcg), whatever the probe says.",
    "APPCAT_SWITCH": "Join networks by this (bridge or hub), whatever the probe says, where no vm is on one yet.",
    "APPCAT_LOG": "With the value debug: print every program that is run and the monitor's talk.",
    "NO_COLOR": "When set to anything: no colours.",
}


@dataclass(frozen=True)
class Settings:
    """Directories and overrides; computed once, never changed."""

    home: Path
    cache: Path
    runtime: Path
    templates: Path
    memory: Path | None = None
    accelerator: str | None = None
    switch: str | None = None

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Settings for this process; touches no file."""
        env = os.environ if environ is None else environ
        home = _home(env)
        return cls(
            home=home,
            cache=_cache(env, home),
            runtime=runtime_directory(home),
            templates=templates_directory(),
            memory=memory_directory(home),
            accelerator=env.get("APPCAT_ACCELERATOR") or None,
            switch=env.get("APPCAT_SWITCH") or None,
        )


def _home(env: Mapping[str, str]) -> Path:
    if given := env.get("APPCAT_HOME"):
        return _directory("APPCAT_HOME", given)
    return _platform_directory("APPCAT_HOME", "user_data_dir")


def _platform_directory(variable: str, function: str) -> Path:
    import platformdirs

    try:
        return Path(getattr(platformdirs, function)("appcat"))
    except RuntimeError as error:
        raise InvalidInput(f"this user has no home directory ({error})", hint=f"set {variable}") from error


def _directory(variable: str, given: str) -> Path:
    """A directory that the environment names; resolved, so that one home is one however it is spelled."""
    try:
        return Path(given).expanduser().resolve()
    except (RuntimeError, OSError, ValueError) as error:
        raise InvalidInput(f"{variable} is not a usable path: {error}", hint="give an absolute path") from error


def _cache(env: Mapping[str, str], home: Path) -> Path:
    if given := env.get("APPCAT_CACHE"):
        return _directory("APPCAT_CACHE", given)
    if env.get("APPCAT_HOME"):
        return home / "cache"
    return _platform_directory("APPCAT_CACHE", "user_cache_dir")


def runtime_directory(home: Path) -> Path:
    """The sockets' directory of ``home``: short however long home is, the same for every command of one user."""
    return Path("/tmp") / f"appcat-{os.getuid()}" / _digest(home)


def memory_directory(home: Path) -> Path | None:
    """Where ``home`` keeps frozen memory in memory; None on a host without such a file system."""
    return SHM / f"appcat-{os.getuid()}" / _digest(home) if SHM.is_dir() else None


def _digest(home: Path) -> str:
    return hashlib.sha256(os.fsencode(home)).hexdigest()[:8]


def templates_directory() -> Path:
    """The recipes that came with appcat: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    installed = package / "_templates"
    return installed if installed.is_dir() else package.parent / "templates"
