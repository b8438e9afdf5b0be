"""What private networks outlive, and what one guest can do to others: a reboot of the host, a guest that means harm."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cat import Cat, keepers_of, switches_of, wait_until
from tests.conftest import cat_in, new_home
from tests.segments import PATIENCE, address, await_reach, cards, context_in, places, reaches, skip_without_bridge

pytestmark = [pytest.mark.vm, pytest.mark.xdist_group("segment-faults")]

LEASE = "udhcpc -i eth1 -n -q -t 3 -T 2 -s /usr/bin/true"


@pytest.fixture(scope="module", params=["bridge", "hub"])
def home(cache: Path, request: pytest.FixtureRequest) -> Iterator[Cat]:
    """A home with the networks ``lab`` and ``store`` and two vms on each."""
    for cat in cat_in(new_home(), cache, request):
        cat.extra["APPCAT_SWITCH"] = request.param
        skip_without_bridge(cat)
        for network, names in (("lab", ("evil", "victim")), ("store", ("x", "y"))):
            cat("network", "create", network)
            for name in names:
                cat("vm", "run", name, "--instant", "--network", network)
        yield cat


def test_a_guest_that_means_harm_does_none_to_other_networks(home: Cat) -> None:
    """It serves addresses, takes those of others, and floods; on its own network it can, as on any plain switch."""
    theirs = places(home, "x")["store"]
    home.exec("evil", "echo 'interface eth1\nstart 10.9.9.10\nend 10.9.9.20\n' > /tmp/dhcp && touch /tmp/leases")
    home.exec("evil", "echo lease_file /tmp/leases >> /tmp/dhcp; udhcpd /tmp/dhcp > /dev/null 2>&1 < /dev/null")
    assert home.exec("victim", f"{LEASE} > /dev/null 2>&1 && echo leased") == "leased\n", "that this test could see it"
    assert home.exec("x", f"{LEASE} > /dev/null 2>&1 || echo nobody") == "nobody\n"

    taken = f"ip link set eth1 address {theirs['mac']} && ip addr add {theirs['address']}/24 dev eth1"
    home.exec("evil", f"{taken} && arping -c 3 -A -I eth1 {theirs['address']} > /dev/null 2>&1; true")
    home.exec(
        "evil", "for n in 1 2 3; do ping -i 0.001 -s 1400 255.255.255.255 -I eth1 >/dev/null 2>&1 </dev/null & done"
    )
    for _ in range(3):
        await_reach(home, "y", theirs["address"])
        await_reach(home, "x", "y")
    assert not reaches(home, "evil", address(home, "y", "store"))
    assert cards(home, "x") == {theirs["mac"]: f"{theirs['address']}/24"}
    home("vm", "delete", "--force", "evil")
    assert home.status("victim") == "running"


def test_networks_outlive_a_reboot_of_the_host(home: Cat) -> None:
    """Nobody is alive, what is in /tmp is gone, the records are of another boot: everybody is where they were."""
    names = ("x", "y")
    before = {name: places(home, name) for name in names}
    runtime = context_in(home).settings.runtime
    for name in names:
        record = home.home / "vms" / name / "run.json"
        earlier = json.loads(record.read_text())
        record.write_text(json.dumps({**earlier, "boot_id": "00000000-0000-0000-0000-000000000000"}))
    for pid in [*keepers_of([home.home]), *home.qemus(), *switches_of([home.home])]:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not (home.qemus() or switches_of([home.home])), PATIENCE, "the end of all")
    shutil.rmtree(runtime)
    assert {home.status(name) for name in names} == {"stopped"}
    home("vm", "start", *names)
    assert {name: places(home, name) for name in names} == before
    await_reach(home, "x", "y.store.appcat")
    await_reach(home, "y", before["x"]["store"]["address"])
    shown = json.loads(home("network", "show", "store", "--json"))
    assert (shown["state"], shown["backend"]) == ("up", home.extra["APPCAT_SWITCH"])
