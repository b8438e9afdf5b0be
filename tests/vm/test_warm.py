"""Warm templates: booted once, then started from memory."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cat import Cat, parallel, wait_until
from tests.conftest import cat_in, new_home

pytestmark = [pytest.mark.vm, pytest.mark.xdist_group("warm")]


@pytest.fixture(scope="module")
def home(cache: Path, request: pytest.FixtureRequest) -> Iterator[Cat]:
    """A home of which the first test makes the warm template."""
    yield from cat_in(new_home(), cache, request)


def warm_base(cat: Cat, name: str) -> dict[str, Any]:
    """The base that a running vm began in."""
    return cat.warm()[cat.run_record(name)["base"]]


def test_one_boot_for_all_who_come_at_the_same_time(home: Cat) -> None:
    names = ["w1", "w2", "w3"]
    done = parallel(home, [["vm", "run", name, "--template", "pico", "--instant", "--", "hostname"] for name in names])
    assert [one.stderr for one in done if one.returncode] == []
    assert [one.stdout for one in done] == [f"{name}\n" for name in names]
    assert len(home.warm()) == 1
    assert sum("warming" in one.stderr for one in done) == 1
    assert len({home.run_record(name)["base"] for name in names}) == 1
    script = "cat /etc/machine-id /sys/class/net/eth0/address; head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \\n'"
    said = [word for name in names for word in home.exec(name, script).split()]
    assert len(set(said)) == len(said) == 9
    home("vm", "delete", "--force", *names)


def test_the_next_one_does_not_boot_again(home: Cat) -> None:
    first = home("vm", "run", "again", "--instant", "--", "hostname")
    assert first == "again\n"
    (base,) = home.warm().values()
    assert home.run_record("again")["base"] == base["id"], "kept though nobody used it"
    home("vm", "delete", "--force", "again")


def test_disks_ports_and_labels_come_with_it(home: Cat) -> None:
    options = ["--disk", "64M", "--disk", "logs=32M", "--label", "a=b", "--restart", "on-failure"]
    home("vm", "run", "full", "--instant", *options, "--", "sh", "-c", "echo kept > /data/x; echo kept > /disks/logs/x")
    mounts = home.exec("full", "grep ext4 /proc/mounts | cut -d' ' -f2 | sort")
    assert mounts == "/data\n/disks/logs\n"
    shown = home.show("full")
    assert (shown["labels"], shown["restart"]) == ({"a": "b"}, "on-failure")
    home("vm", "restart", "full")
    assert home.run_record("full").get("base") is None, "a restart boots"
    assert home.exec("full", "hostname; cat /data/x /disks/logs/x") == "full\nkept\nkept\n"
    home("vm", "delete", "--force", "full")


def test_other_sizes_have_bases_of_their_own(home: Cat) -> None:
    home("vm", "run", "usual", "--instant")
    home("vm", "run", "small", "--instant", "--memory", "192M")
    total = int(home.exec("small", "grep MemTotal /proc/meminfo | tr -dc 0-9"))
    assert total < 192 << 10
    home("vm", "run", "small-too", "--instant", "--memory", "192M")
    bases = [home.run_record(name)["base"] for name in ("usual", "small", "small-too")]
    assert bases[0] != bases[1] == bases[2]
    home("vm", "delete", "--force", "usual", "small", "small-too")


def test_clones_of_a_warm_vm_have_bases_of_their_own(home: Cat) -> None:
    home("vm", "run", "source", "--instant", "--disk", "32M")
    home.exec("source", "echo state > /run/x; echo disk > /data/x")
    home("vm", "clone", "source", "copy", "--instant", "--verify")
    assert home.exec("copy", "cat /run/x /data/x") == "state\ndisk\n"
    assert home.run_record("copy")["base"] != home.run_record("source")["base"]
    home("vm", "delete", "--force", "source", "copy")
    assert len(home.warm()) >= 1


def test_what_the_budget_has_no_room_for_is_on_disk(home: Cat) -> None:
    home("vm", "run", "in-memory", "--instant")
    kept = home.run_record("in-memory")["base"]
    home("config", "set", "frozen-memory", "128M")
    try:
        home("vm", "clone", "in-memory", "on-disk", "--instant", "--verify")
        base = home.bases()[home.run_record("on-disk")["base"]]
        assert Path(base["memory"]).is_relative_to(home.home)
        home("vm", "clone", "on-disk", "again", "--instant")
        assert home.exec("again", "hostname") == "again\n"
        home("vm", "run", "other", "--instant", "--memory", "224M")
        assert Path(warm_base(home, "other")["memory"]).is_relative_to(home.home)
        assert kept in home.warm(), "somebody runs in it"
        home("vm", "delete", "--force", "on-disk", "again", "other", "in-memory")
        wait_until(lambda: not home.bases(), what="the end of the clones' bases")
    finally:
        home("config", "unset", "frozen-memory")


def test_frozen_memory_that_somebody_removed_is_made_again(home: Cat) -> None:
    """As a reboot of the host does it, or its login manager at a logout; who runs in it has it mapped, and goes on."""
    home("vm", "run", "before", "--instant")
    base = warm_base(home, "before")
    Path(base["memory"]).unlink()
    home("vm", "run", "after", "--instant")
    assert warm_base(home, "after")["id"] != base["id"]
    time.sleep(5)  # the keeper has looked at all of it twice
    assert home.exec("before", "hostname") == "before\n"
    home("vm", "kill", "before")
    wait_until(lambda: base["id"] not in home.warm(), what="the end of what is left of it")
    home("vm", "start", "before")
    assert home.exec("before", "hostname") == "before\n"
    home("vm", "delete", "--force", "before", "after")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_whoever_makes_it_is_killed(cat: Cat, how: signal.Signals) -> None:
    """Nothing of it runs on, even if nobody uses appcat any more; the next one makes it."""
    victim = cat.popen("vm", "run", "first", "--instant", start_new_session=True)
    wait_until(lambda: cat.qemus(), what="the boot of the template")
    time.sleep(1)
    victim.send_signal(how)
    _, errors = victim.communicate(timeout=120)
    assert "Traceback" not in errors
    assert "first" not in cat.list()
    if how is signal.SIGINT:
        assert cat.qemus() == []
    wait_until(lambda: not cat.qemus(), timeout=90, what="the end of the template's QEMU, with nobody's help")
    wait_until(lambda: not cat.left_of_clones(), timeout=90, what="the sweep")
    assert cat("vm", "run", "second", "--instant", "--", "hostname") == "second\n"
    assert (len(cat.qemus()), len(cat.warm()), cat.bases(), cat.frozen_memory()) == (1, 1, {}, [])
