"""Vms on private networks: cards that come and go, clones with places of their own, whatever is killed in between."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from appcat.errors import InvalidInput
from appcat.model.machine import HubPort, TapPort
from appcat.qemu.monitor import Monitor
from appcat.services import clone as service
from appcat.services.context import Context
from appcat.switch import client
from tests.cat import Cat, parallel, switches_of, wait_until
from tests.conftest import cat_in, new_home
from tests.segments import (
    PATIENCE,
    address,
    await_reach,
    cards,
    context_in,
    context_of,
    places,
    reaches,
    skip_without_bridge,
)
from tests.vm.test_clone import PING, PONG, numbers

pytestmark = [pytest.mark.vm, pytest.mark.xdist_group("segments")]

ETHERNET = 14
VNET_HEADER = 10


@pytest.fixture(scope="module", params=["bridge", "hub"])
def home(cache: Path, request: pytest.FixtureRequest) -> Iterator[Cat]:
    """A home with the networks ``lab`` and ``store``; ``n1`` was booted on lab, ``n2`` and ``n3`` are its clones."""
    for cat in cat_in(new_home(), cache, request):
        cat.extra["APPCAT_SWITCH"] = request.param
        skip_without_bridge(cat)
        cat("network", "create", "lab")
        cat("network", "create", "store")
        cat("vm", "run", "n1", "--network", "lab")
        cat("vm", "clone", "n1", "n2", "n3")
        yield cat


@pytest.fixture
def ctx(home: Cat, monkeypatch: pytest.MonkeyPatch) -> Context:
    """The same home, in this process."""
    return context_of(home, monkeypatch)


@pytest.mark.smoke
def test_all_reach_each_other_by_address_and_by_name(home: Cat) -> None:
    names = ("n1", "n2", "n3")
    have = {name: places(home, name)["lab"] for name in names}
    assert len({place["address"] for place in have.values()}) == 3
    assert len({place["mac"] for place in have.values()}) == 3
    for name in names:
        assert cards(home, name) == {have[name]["mac"]: f"{have[name]['address']}/24"}
        for other in names:
            for target in (have[other]["address"], other, f"{other}.lab.appcat"):
                await_reach(home, name, target)
    assert home.run_record("n2")["backend"] == home.run_record("n1")["backend"] == home.extra["APPCAT_SWITCH"]


def test_another_network_is_another_world(home: Cat) -> None:
    home("vm", "run", "stranger", "--instant", "--network", "store")
    assert not reaches(home, "stranger", address(home, "n1"))
    assert not reaches(home, "n1", address(home, "stranger", "store"))
    # That this test could see it at all.
    home("vm", "network", "attach", "stranger", "lab")
    await_reach(home, "stranger", address(home, "n1"))
    home("vm", "delete", "--force", "stranger")


def test_a_running_vm_comes_and_goes(home: Cat) -> None:
    home("vm", "network", "attach", "n1", "store")
    home("vm", "network", "attach", "n2", "store")
    store = {name: places(home, name)["store"] for name in ("n1", "n2")}
    assert [place["slot"] for place in store.values()] == [1, 1]
    assert cards(home, "n1")[store["n1"]["mac"]] == f"{store['n1']['address']}/24"
    await_reach(home, "n1", store["n2"]["address"])
    await_reach(home, "n2", "n1.store.appcat")
    error = home.fails("already-attached", "vm", "network", "attach", "--json", "n1", "store")
    assert store["n1"]["address"] in error["message"]

    home("vm", "network", "detach", "n1", "store")
    assert list(places(home, "n1")) == ["lab"]
    assert store["n1"]["mac"] not in cards(home, "n1")
    assert not reaches(home, "n2", store["n1"]["address"])
    await_reach(home, "n2", "n1.lab.appcat")
    home.fails("attachment-not-found", "vm", "network", "detach", "--json", "n1", "store")
    home("vm", "network", "detach", "n2", "store")


def test_a_network_goes_under_traffic(home: Cat) -> None:
    """Frames come in and go out while the card is taken away, again and again; the other network carries on."""
    for _ in range(3):
        for name in ("n1", "n2"):
            home("vm", "network", "attach", name, "store")
        targets = {name: address(home, name, "store") for name in ("n1", "n2")}
        for name, other in (("n1", "n2"), ("n2", "n1")):
            flood = f"ping -i 0.002 -s 1000 {targets[other]}"
            home.exec(name, f"for n in 1 2 3 4; do {flood} > /dev/null 2>&1 < /dev/null & done")
        await_reach(home, "n1", targets["n2"])
        home("vm", "network", "detach", "n1", "store")
        await_reach(home, "n2", "n1.lab.appcat")
        home("vm", "network", "detach", "n2", "store")
        for name in ("n1", "n2"):
            home.exec(name, "killall ping; true")
    for name in ("n1", "n2"):
        assert home.exec(name, "dmesg | grep -ci -e 'call trace' -e 'timed out' || true").strip() == "0"


def test_fifth_network_and_taken_addresses_are_refused(home: Cat) -> None:
    home("vm", "clone", "n1", "full", "--linked")
    error = home.fails("address-in-use", "vm", "network", "attach", "--json", "full", f"store:{taken(home)}")
    assert "stored" in error["message"]
    home.fails("invalid-address", "vm", "network", "attach", "--json", "full", "store:10.1.2.3")
    for number in range(3):
        home("network", "create", f"more-{number}")
        home("vm", "network", "attach", "full", f"more-{number}")
    home.fails("no-room", "vm", "network", "attach", "--json", "full", "store")
    assert list(places(home, "full")) == ["lab", "more-0", "more-1", "more-2"]
    home("vm", "network", "detach", "full", "more-1")
    home("vm", "network", "attach", "full", "store")
    assert [place["slot"] for place in places(home, "full").values()] == [0, 1, 3, 2]
    home("vm", "delete", "--force", "full", "stored")
    home("network", "delete", "more-0", "more-1", "more-2")


def taken(home: Cat) -> str:
    """An address on ``store`` that a vm called ``stored`` has."""
    home("vm", "create", "stored", "--network", "store")
    return address(home, "stored", "store")


def test_paused_vm_is_attached_and_told_later(home: Cat) -> None:
    home("vm", "pause", "n3")
    try:
        done = home.try_("vm", "network", "attach", "n3", "store")
        assert done.returncode == 0, done.stderr
        assert "paused" in done.stderr
        home.fails("vm-paused", "vm", "network", "detach", "--json", "n3", "lab")
    finally:
        home("vm", "unpause", "n3")
    place = places(home, "n3")["store"]
    wait_until(lambda: cards(home, "n3").get(place["mac"]) == f"{place['address']}/24", PATIENCE, "the keeper's news")
    home("vm", "network", "detach", "n3", "store")


def test_disks_and_networks_do_not_take_each_others_ports(home: Cat) -> None:
    home("vm", "run", "crowd", "--instant", "--network", "lab")
    home("vm", "network", "attach", "crowd", "store")
    for number in range(6):
        home("vm", "disk", "add", "crowd", f"d{number}", "16M")
    home.fails("wrong-state", "vm", "disk", "add", "--json", "crowd", "more", "16M")
    home("network", "create", "third")
    home.fails("no-room", "vm", "network", "attach", "--json", "crowd", "third")
    assert len(cards(home, "crowd")) == 2
    assert home.run_record("crowd")["base"] is not None
    crowded = [option for number in range(8) for option in ("--disk", f"d{number}=16M")]
    done = home.try_("vm", "run", "throng", "--instant", "--network", "lab", *crowded)
    assert (done.returncode, "starts cold" in done.stderr) == (0, True), done.stderr
    assert (len(cards(home, "throng")), home.run_record("throng")["base"]) == (1, None)
    home("vm", "delete", "--force", "throng")
    home("vm", "network", "detach", "crowd", "store")
    home("vm", "network", "attach", "crowd", "third")
    assert places(home, "crowd")["third"]["slot"] == 1
    home("vm", "delete", "--force", "crowd")
    home("network", "delete", "third")


def test_addresses_stay_over_a_restart(home: Cat) -> None:
    home("vm", "network", "attach", "n3", "store")
    before = places(home, "n3")
    home("vm", "restart", "n3")
    assert places(home, "n3") == before
    assert cards(home, "n3") == {place["mac"]: f"{place['address']}/24" for place in before.values()}
    await_reach(home, "n3", "n1")
    await_reach(home, "n2", "n3")
    home("vm", "network", "detach", "n3", "store")


def test_a_stopped_vm_is_on_it_at_its_next_start(home: Cat) -> None:
    home("vm", "stop", "n3")
    home("vm", "network", "detach", "n3", "lab")
    home("vm", "network", "attach", "n3", "store")
    home("vm", "network", "attach", "n3", "lab")
    assert {name: place["slot"] for name, place in places(home, "n3").items()} == {"store": 0, "lab": 1}
    home("vm", "start", "n3")
    await_reach(home, "n3", "n1")
    await_reach(home, "n1", "n3")
    home("vm", "network", "detach", "n3", "store")


def test_a_killed_switch_is_not_missed_or_comes_back(home: Cat) -> None:
    (pid,) = switches_of([home.home])
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: pid not in switches_of([home.home]), what="its end")
    if home.extra["APPCAT_SWITCH"] == "bridge":
        assert reaches(home, "n1", address(home, "n2")), "traffic goes on without it"
    else:
        await_reach(home, "n1", address(home, "n2"))
    home("vm", "network", "attach", "n1", "store")
    home("vm", "network", "attach", "n2", "store")
    await_reach(home, "n1", "n2.store.appcat")
    home("vm", "clone", "n1", "late", "--instant")
    await_reach(home, "late", "n2.lab.appcat")
    await_reach(home, "n3", "late")
    home("vm", "delete", "--force", "late")
    for name in ("n1", "n2"):
        home("vm", "network", "detach", name, "store")


def test_what_a_killed_command_left_is_finished(home: Cat, ctx: Context) -> None:
    """Named in vm.json and not in QEMU: as an attachment leaves it that is killed early, or a detachment late."""
    home("vm", "network", "attach", "n3", "store")
    before = places(home, "n3")
    for finish in (["network", "attach", "n3", "store"], ["start", "n3"], ["network", "attach", "n3", "more"]):
        take_card_away(ctx, "n3", before["store"]["mac"])
        if finish[-1] == "more":
            home("network", "create", "more")
        home("vm", *finish)
        assert places(home, "n3")["store"] == before["store"]
        await_reach(home, "n3", before["store"]["address"])
        assert cards(home, "n3")[before["store"]["mac"]] == f"{before['store']['address']}/24"
    take_card_away(ctx, "n3", before["store"]["mac"])
    home("vm", "network", "detach", "n3", "store")
    home("vm", "network", "detach", "n3", "more")
    home("network", "delete", "more")
    assert places(home, "n3") == {"lab": before["lab"]}
    await_reach(home, "n1", "n3")


def take_card_away(ctx: Context, name: str, mac: str) -> None:
    """Have QEMU let go of a card without anybody writing it down; its near end stays."""
    (place,) = (place for place in ctx.store.load(name).networks if place.mac == mac)
    card = f"nic{place.slot + 1}"
    with Monitor(ctx.layout.runtime(ctx.store.load(name).uuid).monitor) as monitor:
        monitor.execute("device_del", id=card)
        told = ("DEVICE_DELETED", card)
        while ((event := monitor.next_event(PATIENCE))["event"], event.get("data", {}).get("device")) != told:
            pass


# --- whose frames


@dataclass
class Tap:
    """A port of the switch that nobody is behind but this test, which hears what goes to everybody."""

    ctx: Context
    network: str
    frames: list[bytes] = field(default_factory=list)

    def __enter__(self) -> Tap:
        (self.port,) = client.open_ports(self.ctx.layout, ["0123456789ab-0"])
        match self.port.wiring:
            case TapPort(descriptor):
                os.set_blocking(descriptor, False)
                self.descriptor = descriptor
            case HubPort(local):
                self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                self.socket.bind(str(local))
                self.socket.setblocking(False)
                self.descriptor = self.socket.fileno()
        client.connect(self.ctx.layout, [("0123456789ab-0", self.network)])
        return self

    def __exit__(self, *_: object) -> None:
        self.port.close()
        if hasattr(self, "socket"):
            self.socket.close()
        client.forget(self.ctx.layout, ["0123456789ab-0"])

    def hear(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self.descriptor], [], [], left)[0]:
                frame = os.read(self.descriptor, 1 << 17)
                self.frames.append(frame[VNET_HEADER:] if isinstance(self.port.wiring, TapPort) else frame)

    def senders(self) -> set[str]:
        return {frame[6:12].hex(":") for frame in self.frames}

    def ip_senders(self) -> set[str]:
        """Who says in ARP and IPv4 that it has sent them; 0.0.0.0 asks whether an address is taken."""
        arp = {frame[28:32] for frame in self.frames if frame[12:14] == b"\x08\x06"}
        ip = {frame[26:30] for frame in self.frames if frame[12:14] == b"\x08\x00"}
        return {".".join(map(str, sender)) for sender in arp | ip} - {"0.0.0.0"}


def nobody(cat: Cat, name: str, network: str) -> str:
    """An address on a vm's network that no vm has."""
    return f"{address(cat, name, network).rpartition('.')[0]}.250"


def test_a_clone_is_itself_from_its_first_frame(home: Cat, ctx: Context) -> None:
    """On a network where nobody else is: all that is heard there is the clone's. It is in the middle of talking."""
    home("network", "create", "quiet")
    talk = f"while :; do ping -c 1 -W 1 n2; ping -c 1 -W 1 {nobody(home, 'n1', 'lab')}; done"
    home.exec("n1", f"({talk}) > /dev/null 2>&1 < /dev/null &")
    with Tap(ctx, "quiet") as tap:
        for number in range(3):
            name = f"q{number}"
            home("vm", "clone", "n1", name, "--instant", "--network", "quiet")
            place = places(home, name)["quiet"]
            home.exec(name, f"ping -c 2 -W 1 {nobody(home, name, 'quiet')}; true")
            tap.hear(2.0)
            assert tap.senders() == {place["mac"]}
            assert tap.ip_senders() <= {place["address"]}
            home("vm", "delete", "--force", name)
            tap.hear(0.5)  # its last words
            tap.frames.clear()
    home("network", "delete", "quiet")


def test_a_fork_on_its_sources_network_is_somebody_else_there(home: Cat) -> None:
    home("vm", "clone", "n2", "f", "--instant", "--fork")
    mine, its = places(home, "n2")["lab"], places(home, "f")["lab"]
    assert (mine["mac"], mine["address"]) != (its["mac"], its["address"])
    assert cards(home, "f") == {its["mac"]: f"{its['address']}/24"}
    assert home.exec("f", "hostname") == "n2\n"
    await_reach(home, "f", "n1")
    await_reach(home, "n1", "f")
    home("vm", "delete", "--force", "f")


def test_a_set_of_forks_on_a_twin_goes_on_talking(home: Cat, ctx: Context) -> None:
    """One cut through two vms and the TCP connection between them; both sets have it, each on a network of its own."""
    home("network", "create", "twin", "--twin", "lab")
    for name, program in (("n1", PING), ("n2", PONG)):
        home("vm", "exec", name, "--", "sh", "-c", "cat > /run/talk; chmod 755 /run/talk", stdin=program)
    home.exec("n2", "nc -l -p 7777 -e /run/talk > /dev/null 2>&1 < /dev/null &")
    home.exec("n1", f"nc {address(home, 'n2')} 7777 -e /run/talk > /dev/null 2>&1 < /dev/null &")
    wait_until(lambda: int(home.exec("n1", "cat /run/received 2>/dev/null | wc -l")) > 3, PATIENCE, "talk")
    pairs = [("n1", "t1"), ("n2", "t2")]
    with pytest.raises(InvalidInput, match="no vm of the set is on lib"):
        service.clone_set(ctx, pairs, fork=True, networks={"lib": "twin"})
    cloned = service.clone_set(ctx, pairs, fork=True, networks={"lab": "twin"})
    assert [outcome.error for one in cloned for outcome in one.outcomes] == [None, None]
    for source, fork in (("n1", "t1"), ("n2", "t2")):
        was, now = places(home, source)["lab"], places(home, fork)["twin"]
        assert (was["mac"], was["address"]) == (now["mac"], now["address"])
        assert cards(home, source) == cards(home, fork)
    for name in ("t1", "n1"):
        before = numbers(home, name)[1]
        wait_until(lambda: numbers(home, name)[1] > before + 10, PATIENCE, f"{name} talking on")  # noqa: B023
    await_reach(home, "t1", "n2")  # as t2 is called inside
    home("vm", "delete", "--force", "t1", "t2")
    home.exec("n1", "killall nc")
    home("network", "delete", "twin")


def test_clones_elsewhere_and_where_they_cannot_be(home: Cat) -> None:
    instant = ["vm", "clone", "--json", "n1", "x", "--instant"]
    home.fails("invalid-input", *instant, "--network", "lab", "--network", "store")
    home.fails("network-not-found", *instant, "--network", "nowhere")
    home("vm", "clone", "n1", "x", "--instant", "--network", "store")
    home("vm", "clone", "n1", "y", "--linked", "--network", "store", "--network", "lab")
    assert list(places(home, "x")) == ["store"]
    assert list(places(home, "y")) == ["store", "lab"]
    assert not reaches(home, "x", address(home, "n2"))
    home("vm", "start", "y")
    await_reach(home, "y", "x")
    await_reach(home, "n2", "y")
    home("vm", "delete", "--force", "x", "y")


def test_run_instant_begins_in_a_warm_template_with_cards(home: Cat) -> None:
    """One for each number of networks, whichever they are."""
    names = ["w1", "w2"]
    done = parallel(home, [["vm", "run", name, "--instant", "--network", "lab"] for name in names])
    assert [one.stderr for one in done if one.returncode] == []
    home("vm", "run", "w3", "--instant", "--network", "store")
    home("vm", "run", "w4", "--instant", "--network", "store", "--network", "lab")
    bases = {name: home.run_record(name)["base"] for name in (*names, "w3", "w4")}
    assert bases["w1"] == bases["w2"] == bases["w3"] != bases["w4"]
    assert {len(home.warm()[base]["vm"]["networks"]) for base in bases.values()} == {1, 2}
    for name in (*names, "w4"):
        have = places(home, name)
        assert cards(home, name) == {place["mac"]: f"{place['address']}/24" for place in have.values()}
        await_reach(home, name, "n1")
        await_reach(home, "n1", name)
    await_reach(home, "w4", "w3.store.appcat")
    assert not reaches(home, "w3", address(home, "n1"))
    home("vm", "delete", "--force", *bases)


def test_a_state_of_another_switch_is_refused(home: Cat) -> None:
    """As after an upgrade of the host that gave it bridges, or took them away."""
    record = home.home / "vms" / "n3" / "run.json"
    was = record.read_text()
    other = {"bridge": "hub", "hub": "bridge"}[home.extra["APPCAT_SWITCH"]]
    record.write_text(json.dumps({**json.loads(was), "backend": other}))
    try:
        error = home.fails("state-mismatch", "vm", "clone", "--json", "n3", "never", "--instant")
        assert "restart" in error["hint"]
        assert "never" not in home.list()
        home.fails("state-mismatch", "vm", "network", "attach", "--json", "n3", "store")
        assert list(places(home, "n3")) == ["lab"]
    finally:
        record.write_text(was)
    home("vm", "clone", "n3", "once", "--instant")
    home("vm", "delete", "--force", "once")


class Greeter:
    """A server of the host's; gives its port."""

    def __enter__(self) -> int:
        self.server = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()
        return int(self.server.getsockname()[1])

    def __exit__(self, *_: object) -> None:
        self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                with self.server.accept()[0] as connection:
                    connection.sendall(b"hello\n")


def test_without_a_way_out(home: Cat) -> None:
    home("network", "create", "closed", "--no-internet")
    with Greeter() as port:
        home("vm", "run", "inmate", "--instant", "--network", "closed")
        out = f"nc -w 5 10.0.2.2 {port} < /dev/null; true"
        assert home.exec("inmate", out) == ""
        assert home.exec("n1", out) == "hello\n", "others get there"
        told = home.try_("vm", "network", "attach", "inmate", "store").stderr
        assert "next start" in told
        home("vm", "restart", "inmate")
        assert home.exec("inmate", out) == "hello\n"
    home("vm", "delete", "--force", "inmate")
    home("network", "delete", "closed")


def test_a_switch_that_fails_leaves_no_half_started_vm(cat: Cat) -> None:
    cat("network", "create", "lab")
    cat("vm", "create", "web", "--network", "lab")
    cat.extra["APPCAT_SWITCH"] = "hub"
    runtime = Path(str(context_in(cat).settings.runtime))
    runtime.mkdir(mode=0o700, exist_ok=True)
    (runtime / "switch").write_text("in the way")
    try:
        done = cat.try_("vm", "start", "web")
        assert done.returncode not in (0, 1), done.stderr
        assert "Traceback" not in done.stderr
        assert "switch" in done.stderr
        assert (cat.status("web"), cat.qemus(), cat.sockets()) == ("stopped", [], [])
        assert cat.try_("vm", "run", "other", "--instant", "--network", "lab").returncode != 0
        assert list(cat.list()) == ["web"]
    finally:
        (runtime / "switch").unlink()
    cat("vm", "start", "web")
    assert len(cards(cat, "web")) == 1
    cat("vm", "delete", "--force", "web")
    assert [path.name for path in (runtime / "switch").iterdir() if path.suffix in (".port", ".hub", ".vm")] == []
