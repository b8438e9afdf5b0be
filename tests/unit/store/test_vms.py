from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from appcat.errors import AlreadyExists, AppcatError, Broken, InvalidInput, NotFound
from appcat.model import codec
from appcat.model.run import ExitCause
from appcat.model.vm import SCHEMA
from appcat.store import locks
from appcat.store import vms as vms_module
from appcat.store.layout import CREATE_PREFIX, DELETE_PREFIX, VmPaths
from appcat.store.vms import VM, VmStore
from tests.unit.support.listing import names_in
from tests.unit.support.processes import Child, fork_many
from tests.unit.support.samples import sample_exit, sample_run, sample_vm

# What children need to work on the store of a test; sys.argv[1] is the home.
OPEN_STORE = (
    "import os, signal, sys, pathlib\n"
    "from appcat.settings import Settings\n"
    "from appcat.store import locks, vms\n"
    "from appcat.store.layout import Layout\n"
    "from tests.unit.support.samples import sample_vm\n"
    "home = pathlib.Path(sys.argv[1])\n"
    "store = vms.VmStore(Layout(Settings(home, home, home, home)))\n"
    "def die(*_): os.kill(os.getpid(), signal.SIGKILL)\n"
)


def nothing(_paths: VmPaths) -> None:
    pass


def add(store: VmStore, *names: str) -> None:
    for name in names:
        store.add(sample_vm(name), nothing)


def entries(store: VmStore) -> list[str]:
    return names_in(store.layout.vms)


def leftovers(store: VmStore, prefix: str) -> list[Path]:
    return list(store.layout.vms.glob(f"{prefix}*"))


def test_no_home_means_no_vms(store: VmStore) -> None:
    shutil.rmtree(store.layout.home)
    assert store.names() == []


def test_what_is_added_is_found_again(store: VmStore) -> None:
    vm = sample_vm("web", labels={"role": "front ä"})
    store.add(vm, lambda paths: paths.known_hosts.write_text("prepared"))
    assert store.load("web") == vm
    assert store.layout.vm("web").known_hosts.read_text() == "prepared"


def test_names_are_sorted_and_leave_out_the_unfinished_and_plain_files(store: VmStore) -> None:
    add(store, "web", "db", "app")
    (store.layout.vms / f"{CREATE_PREFIX}x").mkdir()
    (store.layout.vms / "notes.txt").touch()
    assert store.names() == ["app", "db", "web"]


@pytest.mark.parametrize(("name", "error"), [("web", NotFound), ("../x", InvalidInput), ("", InvalidInput)])
def test_what_is_not_there_is_not_found(store: VmStore, name: str, error: type[AppcatError]) -> None:
    with pytest.raises(error):
        store.load(name)


def test_a_taken_name_is_refused_and_its_vm_untouched(store: VmStore) -> None:
    add(store, "web")
    with pytest.raises(AlreadyExists, match="a vm called web exists already"):
        store.add(sample_vm("web", cpus=1), nothing)
    assert store.load("web") == sample_vm("web")
    assert entries(store) == ["web"]


def test_a_name_taken_during_preparation_is_refused(store: VmStore) -> None:
    with pytest.raises(AlreadyExists):
        store.add(sample_vm("web"), lambda _paths: add(store, "web"))
    assert entries(store) == ["web"]


def test_failing_preparation_leaves_nothing(store: VmStore) -> None:
    def fail(paths: VmPaths) -> None:
        paths.disks.mkdir()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.add(sample_vm("web"), fail)
    assert entries(store) == []


def test_twenty_concurrent_adds_give_one_vm(store: VmStore) -> None:
    def add_mine(number: int) -> str:
        try:
            store.add(sample_vm("web", ssh_port=20000 + number), nothing)
        except AlreadyExists:
            return "exists"
        return "added"

    outcomes = fork_many(20, add_mine)
    assert sorted(outcomes) == ["added"] + ["exists"] * 19
    assert entries(store) == ["web"]
    assert store.load("web").ssh_port in range(20000, 20020)


def test_interrupted_add_is_no_vm_and_is_swept(store: VmStore) -> None:
    with Child(OPEN_STORE + "store.add(sample_vm('web'), die)", store.layout.home) as child:
        child.process.wait()
    assert store.names() == []
    assert len(leftovers(store, CREATE_PREFIX)) == 1
    add(store, "web")
    assert entries(store) == ["web"]


def test_sweep_spares_an_add_at_work(store: VmStore) -> None:
    code = OPEN_STORE + "store.add(sample_vm('web'), lambda _: (print('at work', flush=True), sys.stdin.read()))"
    with Child(code, store.layout.home) as child:
        assert child.read_line() == "at work"
        store.sweep()
        assert store.names() == []
        assert child.let_go() == 0
    assert entries(store) == ["web"]


@pytest.mark.parametrize(("age", "spared"), [(0, True), (3600, False)])
@pytest.mark.parametrize("lock", ["no lock yet", "lock not yet held"])
def test_a_create_that_has_just_begun_is_spared_until_it_is_old(
    store: VmStore, lock: str, age: int, spared: bool
) -> None:
    directory = store.layout.vms / f"{CREATE_PREFIX}x"
    directory.mkdir()
    if lock == "lock not yet held":
        VmPaths(directory).op_lock.touch()
    then = time.time() - age
    os.utime(directory, (then, then))
    assert store.sweep() is not spared, "whoever sweeps layers needs to know"
    assert directory.exists() is spared


def test_sweep_touches_no_vm(store: VmStore) -> None:
    add(store, "web", "db")
    (store.layout.vm("db").spec).write_text("damaged")
    store.sweep()
    assert store.names() == ["db", "web"]


def document(**changes: object) -> str:
    return json.dumps({"schema": SCHEMA, **codec.encode(sample_vm("web")), **changes})


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "vm.json is not JSON"),
        (document().encode()[:50], "vm.json is not JSON"),
        (b"\xff\xfe", "vm.json is not text"),
        (document(schema=SCHEMA + 1).encode(), "written by a newer appcat"),
        (document(colour="red").encode(), "unknown key 'colour'"),
        (document(name="db").encode(), "vm.json is of 'db', not of web"),
        (document(name="../x").encode(), "vm.json is of '../x', not of web"),
        (None, "vm.json is missing"),
    ],
)
def test_damaged_vm_is_broken_with_the_reason_and_harms_no_other(
    store: VmStore, content: bytes | None, reason: str
) -> None:
    add(store, "web", "db")
    spec = store.layout.vm("web").spec
    spec.unlink() if content is None else spec.write_bytes(content)
    with pytest.raises(Broken, match=reason):
        store.load("web")
    assert store.names() == ["db", "web"]
    assert store.load("db") == sample_vm("db")
    store.remove("web")
    assert entries(store) == ["db"]


def test_newer_documents_are_left_as_they_are(store: VmStore) -> None:
    add(store, "web")
    newer = document(schema=VM.schema + 1, colour="red")
    store.layout.vm("web").spec.write_text(newer)
    with pytest.raises(Broken):
        store.load("web")
    assert store.layout.vm("web").spec.read_text() == newer


def test_removed_vm_is_gone_with_its_files(store: VmStore) -> None:
    add(store, "web", "db")
    store.remove("web")
    assert entries(store) == ["db"]


def test_removing_what_is_not_there_is_told(store: VmStore) -> None:
    with pytest.raises(AppcatError, match="deleting web"):
        store.remove("web")


def test_interrupted_remove_leaves_no_half_vm(store: VmStore) -> None:
    add(store, "web")
    code = OPEN_STORE + (
        "vms.remove_tree = die\n"  # killed between taking it out of the inventory and removing its files
        "with locks.hold(store.layout.vm('web').op_lock, 'delete'):\n"
        "    store.remove('web')\n"
    )
    with Child(code, store.layout.home) as child:
        child.process.wait()
    assert store.names() == []
    assert len(leftovers(store, DELETE_PREFIX)) == 1
    add(store, "web")
    assert entries(store) == ["web"]


def test_sweep_spares_a_remove_at_work(store: VmStore) -> None:
    doomed = store.layout.vms / f"{DELETE_PREFIX}web-1"
    doomed.mkdir()
    with locks.hold(VmPaths(doomed).op_lock, "delete"):
        store.sweep()
        assert doomed.is_dir()
    store.sweep()
    assert not doomed.exists()


def test_run_and_exit_records_follow_each_other(store: VmStore) -> None:
    add(store, "web")
    assert (store.load_run("web"), store.load_exit("web")) == (None, None)
    store.save_run("web", sample_run(pid=17, pid_started=1.5))
    assert store.load_run("web") == sample_run(pid=17, pid_started=1.5)
    store.record_exit("web", sample_exit(ExitCause.GUEST))
    assert (store.load_run("web"), store.load_exit("web")) == (None, sample_exit(ExitCause.GUEST))


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"schema": 99}'])
def test_damaged_records_count_as_none(store: VmStore, content: bytes) -> None:
    add(store, "web")
    paths = store.layout.vm("web")
    paths.run.write_bytes(content)
    paths.exit.write_bytes(content)
    assert (store.load_run("web"), store.load_exit("web")) == (None, None)


SENSELESS = {
    "no network card": {"nics": []},
    "empty uuid": {"uuid": ""},
    "uuid that climbs": {"uuid": "../../../home"},
    "disk outside the vm": {"disks": [{"name": "data", "file": "../../x.qcow2", "size": 1 << 30}]},
    "no memory": {"memory": 0},
    "no processor": {"cpus": -1},
    "port out of range": {"ssh_port": 0},
    "forward out of range": {"ports": [{"host": 70000, "guest": 80, "address": "127.0.0.1", "protocol": "tcp"}]},
}


@pytest.mark.parametrize("changes", SENSELESS.values(), ids=SENSELESS)
def test_values_that_make_no_vm_are_broken(store: VmStore, changes: dict[str, object]) -> None:
    add(store, "web")
    store.layout.vm("web").spec.write_text(document(**changes))
    with pytest.raises(Broken):
        store.load("web")


def test_disks_of_all_vms_but_of_those_being_removed(store: VmStore) -> None:
    store.add(sample_vm("web"), make_disk("data.qcow2"))
    store.add(sample_vm("db"), make_disk("data.qcow2"))
    making, doomed = store.layout.vms / ".create-x", store.layout.vms / ".delete-db-1"
    (making / "disks").mkdir(parents=True)
    (making / "disks" / "new.qcow2").touch()
    (making / "disks" / "new.tmp").touch()
    store.layout.vm("db").root.rename(doomed)
    (store.layout.vms / "empty").mkdir()
    assert sorted(path.relative_to(store.layout.vms) for path in store.disk_files()) == [
        Path(".create-x/disks/new.qcow2"),
        Path("web/disks/data.qcow2"),
    ]


def make_disk(name: str) -> Callable[[VmPaths], None]:
    def prepare(paths: VmPaths) -> None:
        paths.disks.mkdir()
        (paths.disks / name).touch()

    return prepare


def test_what_cannot_be_looked_into_keeps_nobody_from_sweeping_the_rest(
    store: VmStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As what ``sudo appcat`` left is to its user."""
    for name in ("a", "b"):
        directory = store.layout.vms / f"{CREATE_PREFIX}{name}"
        directory.mkdir()
        os.utime(directory, (0, 0))

    def look(directory: Path) -> bool:
        if directory.name.endswith("a"):
            raise PermissionError(13, "Permission denied")
        return False

    monkeypatch.setattr(vms_module, "_at_work", look)
    assert store.sweep()
    assert [entry.name for entry in store.layout.vms.iterdir()] == [f"{CREATE_PREFIX}a"]
