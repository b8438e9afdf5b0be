"""Private networks of real vms, as tests look at them: where a vm is, what its guest reaches, which cards it has."""

from __future__ import annotations

import json
from typing import Any

import pytest

from appcat.app import App
from appcat.services.context import Context
from appcat.switch import client
from tests.cat import Cat, wait_until

PATIENCE = 60.0


def context_of(cat: Cat, monkeypatch: pytest.MonkeyPatch) -> Context:
    for key, value in cat.env.items():
        monkeypatch.setenv(key, value)
    return App.load().context


def skip_without_bridge(cat: Cat) -> None:
    if cat.extra["APPCAT_SWITCH"] == "hub":
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("APPCAT_SWITCH", raising=False)
        found = client.verdict(context_of(Cat(cat.home, cat.cache), patch).layout)
    if found.backend != "bridge":
        pytest.skip(f"no bridge here: {found.reason}")


def places(cat: Cat, name: str) -> dict[str, dict[str, Any]]:
    """The vm's places, by network."""
    return {place["network"]: place for place in json.loads(cat("vm", "network", "list", name, "--json"))}


def address(cat: Cat, name: str, network: str = "lab") -> str:
    return str(places(cat, name)[network]["address"])


def reaches(cat: Cat, source: str, target: str) -> bool:
    """Whether a guest answers a ping itself. What comes through NIC 0 has libslirp's time to live, and that takes any
    ICMP message for an answer where it has a raw socket, as root has.
    """
    done = cat.try_("vm", "exec", source, "--", "ping", "-c", "1", "-W", "5", target)
    return done.returncode == 0 and "ttl=64" in done.stdout


def await_reach(cat: Cat, source: str, target: str) -> None:
    wait_until(lambda: reaches(cat, source, target), PATIENCE, f"{source} reaching {target}")


def cards(cat: Cat, name: str) -> dict[str, str]:
    """MAC and address of each card but the first, as the guest has them."""
    script = """
    for card in /sys/class/net/eth*; do
        name=${card##*/}
        [ $name = eth0 ] || echo $(cat $card/address) $(ip -4 -o addr show $name | sed 's/.*inet \\([^ ]*\\).*/\\1/')
    done
    """
    lines = [line.split() for line in cat.exec(name, script).splitlines()]
    return {line[0]: line[1] if len(line) > 1 else "" for line in lines}


def context_in(cat: Cat) -> Context:
    with pytest.MonkeyPatch.context() as patch:
        return context_of(cat, patch)
