"""Defaults that a home remembers: what ``appcat config`` sets, each with the check its value must pass."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from appcat.errors import InvalidInput
from appcat.model.host import Accelerator
from appcat.model.name import check_name, shorten, suggestion
from appcat.model.network import parse_networks
from appcat.model.prebuilt import parse_pin
from appcat.model.proxy import parse_direct, parse_proxy, without_password
from appcat.model.size import parse_memory, parse_size
from appcat.model.vm import RestartPolicy, check_cpus

SCHEMA = 1
LONGEST_WAIT = 7 * 24 * 3600.0


@dataclass(frozen=True)
class Config:
    """What ``config.json`` holds: texts as the user gave them, by key."""

    values: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Key:
    """One default: what it is for, a check that raises InvalidInput, and how its value is shown where many look."""

    help: str
    check: Callable[[str], object]
    shown: Callable[[str], str] = str

    @staticmethod
    def variable(name: str) -> str:
        """The environment variable that goes before the file: ``APPCAT_START_TIMEOUT`` for ``start-timeout``."""
        return "APPCAT_" + name.upper().replace("-", "_")


def parse_cpus(text: str) -> int:
    """A number of virtual CPUs; raises InvalidInput."""
    return check_cpus(int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0, os.cpu_count() or 1)


def parse_seconds(text: str) -> float:
    """A time to wait; raises InvalidInput."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if 0.1 <= seconds <= LONGEST_WAIT:
        return seconds
    raise InvalidInput(
        f"{shorten(text)} is not a time to wait", hint="give seconds, from 0.1 to a week", code="invalid-time"
    )


def parse_restart(text: str) -> RestartPolicy:
    """A restart policy; raises InvalidInput."""
    return RestartPolicy(_one_of(text, [str(policy) for policy in RestartPolicy], "a restart policy"))


def parse_accelerator(text: str) -> str:
    """An accelerator's name; raises InvalidInput."""
    return _one_of(text, [str(accelerator) for accelerator in Accelerator], "an accelerator")


def parse_file(text: str) -> Path:
    """The path of a file, whatever directory one is in; raises InvalidInput."""
    if text.startswith("/") and text.isprintable():
        return Path(text)
    raise InvalidInput(f"{shorten(text)} is not the whole path of a file", hint="begin with /, such as /etc/ssl/my.pem")


def _one_of(text: str, choices: list[str], what: str) -> str:
    if text in choices:
        return text
    raise InvalidInput(f"{shorten(text)} is not {what}", hint=f"give one of {', '.join(choices)}")


KEYS: Mapping[str, Key] = {
    "accelerator": Key("kvm, hvf or tcg, whatever the probe says", parse_accelerator),
    "ca-certificates": Key("PEM file of authorities that guests trust as well", parse_file),
    "cpus": Key("virtual CPUs of new vms", parse_cpus),
    "frozen-memory": Key("what bases of instant clones may take of memory, such as 4G; more goes to disk", parse_size),
    "memory": Key("memory of new vms, such as 512M", parse_memory),
    "network": Key("networks of new vms: a name, several with commas between, or none", parse_networks),
    "no-proxy": Key("what guests reach without the proxy, besides their networks", parse_direct),
    "prebuilt": Key("where images come from instead of being built: INDEX#sha256=DIGEST", parse_pin),
    "proxy": Key(
        "the proxy of guests: none, host (as this computer's environment says) or a URL", parse_proxy, without_password
    ),
    "restart": Key("restart policy of new vms: no, on-failure, always", parse_restart),
    "start-timeout": Key("seconds that a start waits for the guest", parse_seconds),
    "stop-timeout": Key("seconds that a guest may take to power off", parse_seconds),
    "template": Key("the template of new vms", check_name),
}


def find_key(name: str) -> Key:
    """The key called ``name``; raises InvalidInput, naming what was probably meant."""
    if name in KEYS:
        return KEYS[name]
    hint = suggestion(name, KEYS) or f"keys: {', '.join(KEYS)}"
    raise InvalidInput(f"there is no setting {shorten(name)}", hint=hint, code="unknown-setting")
