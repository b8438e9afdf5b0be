"""Clones that work: who they are, what they share and what they do not, disks, sets frozen at one instant."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from appcat.app import App
from appcat.services import clone as service
from tests.cat import Cat, wait_until
from tests.conftest import cat_in, new_home

pytestmark = [pytest.mark.vm, pytest.mark.xdist_group("clone")]

FREEZES = max(12, int(os.environ.get("APPCAT_ROUNDS", "20")) // 4)
DEEPEST = 8
WHO = "hostname; cat /etc/machine-id /sys/class/net/eth0/address; head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \\n'"
# Counts in memory, several times a second.
COUNTER = """
cat > /run/counter <<'END'
i=0
while :; do i=$((i + 1)); echo $i >> /run/count; sleep 0.2; done
END
sh /run/counter > /dev/null 2>&1 < /dev/null &
"""
COUNTS_ON = """
before=$(tail -n 1 /run/count)
until [ $(tail -n 1 /run/count) -gt $before ]; do sleep 0.1; done
echo counts on
"""


@pytest.fixture(scope="module")
def home(cache: Path, request: pytest.FixtureRequest) -> Iterator[Cat]:
    """A home with a running vm ``src`` that has a disk; afterwards every disk is sound."""
    for cat in cat_in(new_home(), cache, request):
        cat("vm", "run", "src", "--instant", "--disk", "64M", "--label", "role=source")
        yield cat
        cat("vm", "stop", *cat.list())
        check_disks(cat)


def check_disks(cat: Cat) -> None:
    for disk in cat.disks():
        done = subprocess.run(["qemu-img", "check", disk], capture_output=True, text=True, check=False)
        assert done.returncode == 0, (disk, done.stdout, done.stderr)


def chain(disk: Path) -> list[str]:
    """The files that a disk consists of, as qemu-img sees them, the top first."""
    argv = ["qemu-img", "info", "-U", "--backing-chain", "--output=json", str(disk)]
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    return [image["filename"] for image in json.loads(done.stdout)]


def host_key(cat: Cat, name: str) -> str:
    """What the guest shows to whoever knocks at its SSH port."""
    ssh = cat.show(name)["ssh"]
    argv = ["ssh-keyscan", "-T", "60", "-t", "ed25519", "-p", str(ssh["port"]), ssh["address"]]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=120)
    return done.stdout.split()[-1]


def known_key(cat: Cat, name: str) -> str:
    return (cat.home / "vms" / name / "known_hosts").read_text().split()[2]


def facts(cat: Cat, name: str) -> dict[str, str]:
    """All that must be a vm's own, asked of its guest."""
    values = cat.exec(name, WHO).split()
    return dict(zip(("hostname", "machine_id", "mac", "random"), values, strict=True), host_key=host_key(cat, name))


def machine_id(cat: Cat, name: str) -> str:
    return str(json.loads((cat.home / "vms" / name / "vm.json").read_text())["machine_id"])


def nothing_left(cat: Cat) -> None:
    """No base, layer, frozen memory, socket: the keeper sweeps what the last command came too early for."""
    wait_until(lambda: not cat.left_of_clones(), timeout=60, what=f"the end of {cat.left_of_clones()}")


@pytest.mark.smoke
def test_a_running_vm_in_three_generations(cat: Cat) -> None:
    cat("vm", "run", "a", "--disk", "32M", "--", "sh", "-c", "echo state > /run/x")
    cat.exec("a", COUNTER)
    told = cat("vm", "clone", "a", "b", "c", "d", "--instant", "--verify")
    assert "verified: 4 vms" in told
    assert "stood still for" in told
    assert cat("vm", "exec", "c", "--", "cat", "/run/x") == "state\n"
    cat("vm", "clone", "c", "e", "--instant")
    cat("vm", "clone", "e", "f", "--instant", "--verify")
    everybody = list("abcdef")
    assert {name: vm["status"] for name, vm in cat.list().items()} == dict.fromkeys(everybody, "running")
    asked = {name: facts(cat, name) for name in everybody}
    for name, fact in asked.items():
        assert fact["hostname"] == name
        assert fact["mac"] == cat.show(name)["mac"]
        assert fact["host_key"] == known_key(cat, name)
    for key in ("hostname", "machine_id", "mac", "host_key", "random"):
        assert len({fact[key] for fact in asked.values()}) == len(everybody), (key, asked)
    cat("vm", "delete", "a", "--force")
    for name in everybody[1:]:
        assert cat.exec(name, f"cat /run/x; {COUNTS_ON}") == "state\ncounts on\n"
    cat("vm", "clone", "f", "g", "--instant", "--verify")
    cat("vm", "delete", "--force", *"bcdef")
    assert cat("vm", "exec", "g", "--", "cat", "/run/x") == "state\n"
    assert len(cat.bases()) == 1
    cat("vm", "delete", "--force", "g")
    nothing_left(cat)


def test_a_clone_is_let_in_by_its_own_host_key_only(home: Cat) -> None:
    home("vm", "clone", "src", "own-key", "--instant")
    known = home.home / "vms" / "own-key" / "known_hosts"
    right = known.read_text()
    marker, kind, _ = right.split()[:3]
    known.write_text(f"{marker} {kind} {known_key(home, 'src')}\n")
    refused = home.try_("vm", "exec", "own-key", "--", "true")
    assert refused.returncode != 0
    assert "host key" in refused.stderr.lower(), refused.stderr
    assert "Traceback" not in refused.stderr
    known.write_text(right)
    assert home("vm", "exec", "own-key", "--", "hostname") == "own-key\n"
    home("vm", "delete", "--force", "own-key")


def test_what_a_clone_takes_over_and_what_not(cat: Cat) -> None:
    cat.create(
        "n", "--disk", "32M", "--label", "role=source", "--autostart", "--publish", "28080:80", "--memory", "128M"
    )
    cat("vm", "clone", "n", "n", "--count", "3")
    assert {name: vm["status"] for name, vm in cat.list().items()} == dict.fromkeys(
        ("n", "n-1", "n-2", "n-3"), "stopped"
    )
    vms = {name: cat.show(name) for name in cat.list()}
    for name in ("n-1", "n-2", "n-3"):
        assert (vms[name]["memory"], vms[name]["labels"]) == (128 << 20, {"role": "source"})
        assert (vms[name]["autostart"], vms[name]["ports"]) == (False, [])
    for key in ("uuid", "mac", "ssh"):
        assert len({str(vm[key]) for vm in vms.values()}) == 4, key
    assert len({machine_id(cat, name) for name in vms} | {known_key(cat, name) for name in vms}) == 8


REFUSED: dict[str, tuple[str, list[str]]] = {
    "bad name": ("invalid-name", ["src", "../x"]),
    "one bad name among good ones": ("invalid-name", ["src", "good", "Not-Good"]),
    "a name that is taken": ("already-exists", ["src", "good", "src"]),
    "a name twice": ("invalid-input", ["src", "good", "good"]),
    "none at all": ("invalid-input", ["src", "good", "--count", "0"]),
    "fewer than none": ("invalid-input", ["src", "good", "--count", "-1"]),
    "far too many": ("invalid-input", ["src", "good", "--count", "100000"]),
    "a count of several names": ("invalid-input", ["src", "one", "two", "--count", "2"]),
    "a count of a bad name": ("invalid-name", ["src", "Bad", "--count", "2"]),
    "no such source": ("vm-not-found", ["nobody", "good"]),
    "two kinds": ("invalid-input", ["src", "good", "--full", "--linked"]),
    "a linked fork": ("invalid-input", ["src", "good", "--linked", "--fork"]),
    "a full copy verified": ("invalid-input", ["src", "good", "--full", "--verify"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_before_anything_changes(home: Cat, case: str) -> None:
    code, args = REFUSED[case]
    before = (sorted(home.list()), home.bases(), home.layers(), home.disks(), home.show("src"))
    home.fails(code, "vm", "clone", "--json", *args)
    assert (sorted(home.list()), home.bases(), home.layers(), home.disks(), home.show("src")) == before


def test_a_stopped_vm_has_no_memory_to_clone(home: Cat) -> None:
    home.create("cold")
    home.fails("vm-not-running", "vm", "clone", "--json", "cold", "warm", "--instant")
    assert "warm" not in home.list()
    home("vm", "delete", "cold")


def test_paused_is_refused_and_stays_paused(home: Cat) -> None:
    home("vm", "run", "resting", "--instant")
    home("vm", "pause", "resting")
    error = home.fails("vm-paused", "vm", "clone", "--json", "resting", "never", "--instant")
    assert "unpause" in error["hint"]
    assert home.status("resting") == "paused"
    home("vm", "unpause", "resting")
    home("vm", "clone", "resting", "after", "--instant")
    assert home("vm", "exec", "after", "--", "hostname") == "after\n"
    home("vm", "delete", "--force", "resting", "after")


def test_nobody_sees_what_another_writes(home: Cat) -> None:
    """Neither in memory nor on disk; from the source to its clones, back, between clones, to one made later."""
    home.exec("src", "echo before > /run/shared; echo before > /data/shared; sync")
    home("vm", "clone", "src", "x", "y", "--instant")
    names = ("src", "x", "y")
    for name in names:
        # Much, so that it does not just sit in the guest's cache; then what all had in common.
        script = f"""
            for place in /run /data; do
                head -c 3000000 /dev/zero | tr '\\0' {name[0]} > $place/of-{name}
                echo {name} > $place/shared
            done
            sync
        """
        home.exec(name, script)
    home("vm", "clone", "src", "later", "--instant")
    home("vm", "clone", "x", "x-later", "--instant")
    for name, owner in {"src": "src", "x": "x", "y": "y", "later": "src", "x-later": "x"}.items():
        home.exec(name, "echo 3 > /proc/sys/vm/drop_caches")
        places = f"cat $place/shared; ls $place | grep of-; tr -d {owner[0]} < $place/of-{owner}"
        assert home.exec(name, f"for place in /run /data; do {places}; done") == 2 * f"{owner}\nof-{owner}\n", name
    home("vm", "stop", "x", "y", "later", "x-later")
    for name in ("x", "y", "later", "x-later"):
        subprocess.run(["qemu-img", "check", "-q", home.disk(name)], check=True)
    home("vm", "start", "x")
    state = "{ cat /proc/mounts; ls -la /data /sys/block; dmesg | tail -n 40; } >&2"
    assert home.exec("x", f"cat /data/shared && ls /data | grep of- || {state}") == "x\nof-x\n"
    home("vm", "delete", "--force", "x", "y", "later", "x-later")


def test_a_fork_stays_who_it_was(home: Cat) -> None:
    home("vm", "clone", "src", "f", "--fork", "--instant", "--verify")
    source, fork = facts(home, "src"), facts(home, "f")
    assert source.pop("random") != fork.pop("random")
    assert source == fork
    assert fork["hostname"] == "src"
    assert home.show("f")["ssh"]["address"] != home.show("src")["ssh"]["address"]
    home("vm", "restart", "f")
    again = facts(home, "f")
    again.pop("random")
    assert again == fork
    home("vm", "delete", "--force", "f")


@pytest.mark.soak
def test_many_freezes_leave_short_chains(home: Cat) -> None:
    """And the right contents, in clones that stay as well as in those that come and go; the source goes on."""
    home("vm", "run", "deep", "--instant", "--disk", "64M")
    kept = {}
    for number in range(1, FREEZES + 1):
        home.exec("deep", f"echo {number} >> /data/log; echo {number} >> /run/log; sync")
        name = f"deep-{number}"
        home("vm", "clone", "deep", name, "--instant")
        expected = "".join(f"{line}\n" for line in range(1, number + 1))
        assert home.exec(name, "cat /data/log /run/log") == 2 * expected
        assert len(chain(home.disk("deep"))) <= DEEPEST
        assert len(chain(home.disk(name))) <= DEEPEST
        if number % 4 == 0:
            kept[name] = expected
        else:
            home("vm", "delete", "--force", name)
    for name, text in {**kept, "deep": expected}.items():
        assert home.exec(name, "echo 3 > /proc/sys/vm/drop_caches; cat /data/log") == text
    assert {home.run_record(name)["base"] for name in kept} <= set(home.bases())
    home("vm", "stop", "deep", *kept)
    check_chains(home, ["deep", *kept])
    home("vm", "start", "deep")
    assert home.exec("deep", "cat /data/log") == expected
    home("vm", "delete", "--force", "deep", *kept)


def check_chains(cat: Cat, names: list[str]) -> None:
    for name in names:
        for file in chain(cat.disk(name)):
            subprocess.run(["qemu-img", "check", "-q", file], check=True)


def test_linked_and_full_from_a_running_source(home: Cat) -> None:
    home("vm", "run", "live", "--instant", "--disk", "64M")
    home.exec("live", "echo one > /data/x; sync; echo late > /data/unsynced")
    home("vm", "clone", "live", "linked", "--linked")
    home("vm", "clone", "live", "full", "--full")
    home.exec("live", "echo two > /data/x; sync")
    assert {home.status(name) for name in ("linked", "full")} == {"stopped"}
    assert len(chain(home.disk("linked"))) == 2
    assert len(chain(home.disk("full"))) == 1
    home("vm", "start", "linked", "full")
    for name in ("linked", "full"):
        assert home.exec(name, "hostname; cat /data/x /data/unsynced") == f"{name}\none\nlate\n"
        home.exec(name, f"echo {name} > /data/x; sync")
    assert len({facts(home, name)["machine_id"] for name in ("live", "linked", "full")}) == 3

    error = home.fails("has-linked-clones", "vm", "delete", "--force", "--json", "live")
    assert "linked" in error["message"]
    assert "flatten" in error["hint"]
    assert home.status("live") == "running"
    home("vm", "flatten", "linked")
    assert len(chain(home.disk("linked"))) == 1
    home.exec("linked", "echo 3 > /proc/sys/vm/drop_caches")
    assert home.exec("linked", "cat /data/x; echo after > /data/y; sync") == "linked\n"
    assert "nothing already" in home("vm", "flatten", "linked")
    home("vm", "delete", "--force", "live")
    home("vm", "restart", "linked")
    assert home.exec("linked", "cat /data/x /data/y /data/unsynced") == "linked\nafter\nlate\n"
    home("vm", "stop", "linked")
    subprocess.run(["qemu-img", "check", "-q", home.disk("linked")], check=True)
    home("vm", "delete", "--force", "linked", "full")


def test_linked_clones_follow_a_rename_a_move_and_a_flatten(cat: Cat) -> None:
    """All while everything is stopped."""
    cat("vm", "run", "src", "--disk", "64M", "--", "sh", "-c", "echo one > /data/x; sync")
    cat("vm", "stop", "src")
    cat("vm", "clone", "src", "l1", "l2", "--linked")
    cat("vm", "clone", "l1", "l1-l1")
    cat("vm", "clone", "src", "full", "--full")
    assert {cat.show(name)["status"] for name in cat.list()} == {"stopped"}
    assert (len(chain(cat.disk("src"))), len(chain(cat.disk("l1-l1"))), len(chain(cat.disk("full")))) == (2, 3, 1)
    cat.fails("has-linked-clones", "vm", "delete", "--json", "src")
    cat("vm", "rename", "src", "mother")
    cat.fails("has-linked-clones", "vm", "delete", "--json", "mother")
    check_disks(cat)

    was, moved = cat.home, cat.home.with_name(f"{cat.home.name}-moved")
    wait_until(lambda: not cat.sockets(), what="the end of the sockets")
    shutil.move(was, moved)
    cat.home = moved
    try:
        assert sorted(cat.list()) == ["full", "l1", "l1-l1", "l2", "mother"]
        check_disks(cat)
        cat("vm", "flatten", "l2")
        assert len(chain(cat.disk("l2"))) == 1
        cat("vm", "start", "mother", "l1-l1", "l2")
        for name in ("mother", "l1-l1", "l2"):
            assert cat.exec(name, "hostname; cat /data/x") == f"{name}\none\n"
        cat("vm", "delete", "--force", "l1-l1", "l1", "mother")
        assert cat.exec("l2", "cat /data/x") == "one\n"
        cat("vm", "delete", "--force", "l2", "full")
        nothing_left(cat)
    finally:
        cat.clean_up()
        shutil.rmtree(moved)
        cat.home = was


def test_hooks_run_in_a_clone_before_it_is_reached(home: Cat) -> None:
    home("vm", "run", "hooked", "--instant")
    before = len(home.bases())
    first = "#!/bin/sh\\nhostname > /run/hooked\\ncat /etc/machine-id >> /run/hooked\\n"
    home.exec("hooked", f"cd /etc/appcat/clone.d; printf '{first}' > 10-note; chmod 755 10-note; echo no > 20-data")
    home("vm", "clone", "hooked", "h1", "--instant")
    assert home.exec("h1", "cat /run/hooked; cat /etc/machine-id").split() == [
        "h1",
        *([machine_id(home, "h1")] * 2),
    ]
    assert home.try_("vm", "exec", "hooked", "--", "cat", "/run/hooked").returncode != 0

    home.exec(
        "hooked", "printf '#!/bin/sh\\nexit 3\\n' > /etc/appcat/clone.d/50-bad; chmod 755 /etc/appcat/clone.d/50-bad"
    )
    error = home.fails("guest-failed", "vm", "clone", "--json", "hooked", "h2", "--instant")
    assert "50-bad ended with status 3" in error["message"]
    assert "h2" not in home.list()
    assert not (home.home / "vms" / "h2").exists()
    assert home.exec("hooked", "hostname") == "hooked\n"
    assert len(home.bases()) == 1 + before, "that of h1"

    home.exec("hooked", "rm /etc/appcat/clone.d/50-bad")
    home("vm", "clone", "hooked", "h2", "--instant")
    assert home.exec("h2", "head -n 1 /run/hooked") == "h2\n"
    home("vm", "delete", "--force", "hooked", "h1", "h2")


# Two guests in lock step: each writes down what it is about to send, and what it has received.
PING = """#!/bin/sh
i=0
while :; do
    i=$((i + 1))
    echo $i >> /run/sent
    echo $i
    read -r got || exit
    echo $got >> /run/received
done
"""
PONG = """#!/bin/sh
while read -r got; do
    echo $got >> /run/received
    echo $got >> /run/sent
    echo $got
done
"""


class Relay:
    """Joins the two connections that come in; what one says the other hears."""

    def __init__(self) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.server.settimeout(240)
        self.ends: list[socket.socket] = []
        self.port = self.server.getsockname()[1]
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        try:
            while len(self.ends) < 2:
                self.ends.append(self.server.accept()[0])
                self.ends[-1].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            return
        pumps = [
            threading.Thread(target=self._pump, args=pair, daemon=True)
            for pair in (self.ends, list(reversed(self.ends)))
        ]
        for pump in pumps:
            pump.start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(4096):
                target.sendall(data)
        except OSError:
            return

    def close(self) -> None:
        for end in (self.server, *self.ends):
            end.close()


def numbers(cat: Cat, name: str) -> tuple[int, int]:
    """The last number a guest has sent, and received."""
    sent, received = cat.exec(name, "tail -n 1 /run/sent; tail -n 1 /run/received").split()
    return int(sent), int(received)


def ahead(cat: Cat, ping: str, pong: str) -> tuple[int, int]:
    """How much each of two clones has received that the other had not sent when it was frozen: nothing, if one cut."""
    # Nobody answers a clone: it has noticed, or will, that its connection is not there any more, and stands still.
    (ping_sent, ping_received), (pong_sent, pong_received) = numbers(cat, ping), numbers(cat, pong)
    return pong_received - ping_sent, ping_received - pong_sent


def test_a_set_is_one_cut(home: Cat, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in home.env.items():
        monkeypatch.setenv(key, value)
    ctx = App.load().context
    relay = Relay()
    try:
        for name, program in (("p", PING), ("q", PONG)):
            home("vm", "run", name, "--instant", "--disk", "32M")
            home("vm", "exec", name, "--", "sh", "-c", "cat > /run/talk; chmod 755 /run/talk", stdin=program)
            home.exec(name, f"nc 10.0.2.2 {relay.port} -e /run/talk > /dev/null 2>&1 < /dev/null &")
        wait_until(lambda: int(home.exec("p", "cat /run/received 2>/dev/null | wc -l")) > 3, 120, "talk")
        for number in range(2):
            before = numbers(home, "p")[0]
            cloned = service.clone_set(ctx, [("p", f"p{number}"), ("q", f"q{number}")])
            assert [outcome.error for one in cloned for outcome in one.outcomes] == [None, None]
            assert len({one.stun for one in cloned}) == 1
            assert max(ahead(home, f"p{number}", f"q{number}")) <= 0
            assert numbers(home, f"p{number}")[0] >= before
            wait_until(lambda: numbers(home, "p")[0] > before + 10, 120, "the sources talking on")  # noqa: B023

        # That this test can see it at all: one after the other is not one cut.
        home("vm", "clone", "p", "p-alone", "--instant")
        before = numbers(home, "p")[0]
        wait_until(lambda: numbers(home, "p")[0] > before + 10, 120, "more talk")
        home("vm", "clone", "q", "q-alone", "--instant")
        assert max(ahead(home, "p-alone", "q-alone")) > 0
    finally:
        relay.close()
    home("vm", "delete", "--force", *(name for name in home.list() if name[0] in "pq"))


def test_a_set_of_forks_keeps_names_and_addresses(home: Cat, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in home.env.items():
        monkeypatch.setenv(key, value)
    home("vm", "run", "m", "--instant")
    home("vm", "run", "n", "--instant")
    cloned = service.clone_set(App.load().context, [("m", "m2"), ("n", "n2")], fork=True)
    assert [outcome.error for one in cloned for outcome in one.outcomes] == [None, None]
    for source, fork in (("m", "m2"), ("n", "n2")):
        was: dict[str, Any] = facts(home, source)
        now: dict[str, Any] = facts(home, fork)
        assert was.pop("random") != now.pop("random")
        assert was == now
    home("vm", "delete", "--force", "m", "n", "m2", "n2")


def test_a_base_goes_with_the_last_of_its_users(home: Cat) -> None:
    home("vm", "clone", "src", "u1", "u2", "u3", "--instant")
    base = home.bases()[home.run_record("u1")["base"]]
    assert {home.run_record(name)["base"] for name in ("u1", "u2", "u3")} == {base["id"]}
    assert Path(base["memory"]).exists()
    home("vm", "stop", "u1")
    home("vm", "delete", "--force", "u2")
    assert base["id"] in home.bases()
    os.kill(home.run_record("u3")["pid"], 9)
    wait_until(lambda: base["id"] not in home.bases(), timeout=60, what="the keeper's sweep")
    assert not Path(base["memory"]).exists()
    assert home.exec("src", "hostname") == "src\n"
    home("vm", "start", "u1")  # cold now
    assert home.exec("u1", "hostname; cat /data/shared 2>/dev/null | wc -l").split()[0] == "u1"
    assert home.run_record("u1").get("base") is None
    home("vm", "delete", "--force", "u1", "u3")
