from __future__ import annotations

import contextlib
import json
import os
import stat
import tarfile
from pathlib import Path

import pytest

from appcat.errors import AlreadyExists, AppcatError, InvalidInput, QemuError
from appcat.model.event import EventKind
from appcat.services import bundle
from appcat.services.bundle import TAIL, TOP, write_bundle
from appcat.services.context import Context
from appcat.services.events import record
from appcat.services.operations import operation
from appcat.settings import Settings
from tests.unit.support.samples import sample_network, sample_run, sample_vm
from tests.unit.support.vms import add_vm

SECRET = "Plant3dSecretN0body"
OPERATION = "20261125T221500-7f3a9c"
PEM = f"-----BEGIN OPENSSH PRIVATE KEY-----\n{SECRET}\n-----END OPENSSH PRIVATE KEY-----\n"


@pytest.fixture(autouse=True)
def alice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Somebody whose names can be told from everything else; no probing of accelerators."""
    monkeypatch.setenv("USER", "alice")
    monkeypatch.setenv("HOME", str(tmp_path / "alice"))
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "wonderbox", "6.1", "#1", "x86_64")))
    monkeypatch.setattr(bundle, "examine", lambda _ctx: [])
    monkeypatch.setattr(bundle, "_about", lambda ctx: {"home": str(ctx.layout.home)})


def content(target: Path) -> dict[str, str]:
    with tarfile.open(target) as archive:
        members = archive.getmembers()
        assert {(member.uid, member.gid, member.uname, member.gname) for member in members} == {(0, 0, "", "")}
        files = {member.name: archive.extractfile(member) for member in members}
        assert len(files) == len(members)
        return {name.removeprefix(f"{TOP}/"): file.read().decode() for name, file in files.items() if file}


def report(ctx: Context, tmp_path: Path) -> dict[str, str]:
    target = tmp_path / "report.tar.gz"
    write_bundle(ctx, target)
    return content(target)


def plant(ctx: Context) -> None:
    """Secrets of every kind in every file of a home."""
    home, paths = ctx.layout.home, ctx.layout.vm("web")
    vm = sample_vm(owner="alice", labels={"team": SECRET}, metadata={"deep": {"list": [SECRET]}})
    add_vm(ctx, vm, sample_run(argv=("qemu", "--password", SECRET, f"-x,file={home}/x", "-name", f"token={SECRET}")))
    paths.exit.write_text(json.dumps({"schema": 1, "cause": "failed", "reason": f"Authorization: Bearer {SECRET}"}))
    log = f"hello alice on wonderbox {home} {Path.home()}/x alice@example.org\npassword: {SECRET}\n{PEM}tag {SECRET}\n"
    for path in (paths.console_log, paths.qemu_log, ctx.layout.keeper_log):
        path.write_text(log)
    for path in (paths.identity, paths.known_hosts, paths.host_key, paths.root / "other.log"):
        path.write_text(f"{SECRET}\n")
    paths.disks.mkdir()
    (paths.disks / "data.qcow2").write_text(SECRET)
    ctx.layout.user_key.parent.mkdir()
    for name in ("id_ed25519", "id_ed25519.pub", f"{SECRET}.txt"):
        (ctx.layout.user_key.parent / name).write_text(SECRET)
    ctx.networks.save(sample_network(owner="alice", labels={"team": f"{SECRET}-of-lab"}))
    record(ctx, EventKind.VM_STOPPED, vm, cause="failed", reason=f"password={SECRET} alice@example.org")
    record(ctx, EventKind.VM_LABELLED, vm, labels={"old": f"{SECRET}-of-before"}, removed=[])
    with (home / "events.jsonl").open("a") as file:
        file.write(f"{SECRET}\n")
    with contextlib.suppress(AppcatError), operation(ctx, "start", ["web"], id=OPERATION):
        raise QemuError(f"token={SECRET}", hint=f"ask alice on wonderbox in {home}", details=PEM)
    (home / "config.json").write_text(json.dumps({"proxy": f"http://x:{SECRET}@h/", "registry": {"token": SECRET}}))


def test_no_secret_gets_out(ctx: Context, tmp_path: Path) -> None:
    plant(ctx)
    for name in ("alice-vm", f"{SECRET}-vm"):
        (ctx.layout.vms / name).mkdir()
        (ctx.layout.vms / name / "vm.json").write_text('{"labels": {"broken": "' + SECRET)
    files = report(ctx, tmp_path)
    everything = "\n".join([*files, *files.values()])
    for word in (SECRET, "alice", "wonderbox", str(tmp_path), "example.org"):
        assert word not in everything, word
    assert set(files) == {
        "about.json",
        "config.json",
        "doctor.json",
        "events.jsonl",
        "home.txt",
        "networks/lab.json",
        f"operations/{OPERATION}.json",
        "keeper.log",
        *(f"vms/web/{name}" for name in ("vm.json", "run.json", "exit.json", "console.log", "qemu.log")),
        "vms/<user>-vm/vm.json",
        "vms/<redacted>-vm/vm.json",
    }
    assert "hello <user> on <host> <appcat-home> <home>/x <email>" in files["vms/web/console.log"]
    assert "disks/data.qcow2" in files["home.txt"] and "id_ed25519" not in files["home.txt"]
    assert json.loads(files["vms/web/vm.json"])["labels"] == {"team": "<redacted>"}
    assert json.loads(files["networks/lab.json"])["labels"] == {"team": "<redacted>"}
    events = [json.loads(line) for line in files["events.jsonl"].splitlines()]
    assert [event["kind"] for event in events] == [
        "vm.stopped",
        "vm.labelled",
        "operation.started",
        "operation.ended",
    ]
    assert events[1]["detail"]["labels"] == {"old": "<redacted>"}
    assert json.loads(files[f"operations/{OPERATION}.json"])["state"] == "failed"


def test_of_many_events_the_last_are_told_whole(ctx: Context, tmp_path: Path) -> None:
    for number in range(3000):
        record(ctx, EventKind.VM_STARTED, "web", number=number)
    lines = report(ctx, tmp_path)["events.jsonl"].splitlines()
    ids = [json.loads(line)["id"] for line in lines]
    assert ids == list(range(ids[0], 3001))
    assert len(ids) > 500


@pytest.mark.parametrize("shift", range(0, 200, 7))
def test_no_secret_is_cut_in_two(ctx: Context, tmp_path: Path, shift: int) -> None:
    add_vm(ctx)
    piece = f"password={SECRET * 3}\n{PEM}token:\n   {SECRET}\n"
    filler = "x" * 79 + "\n"
    for window in (TAIL, bundle.WINDOW):
        end = filler * ((window - shift) // 80)
        ctx.layout.vm("web").console_log.write_text(filler * 10 + piece + end + "." * ((window - shift) % 80))
        target = tmp_path / f"{window}.tar.gz"
        write_bundle(ctx, target)
        said = content(target)["vms/web/console.log"]
        assert len(said.encode()) <= TAIL
        assert SECRET[:8] not in said and SECRET[-8:] not in said
        assert filler in said


def test_a_log_that_is_one_line_is_left_out(ctx: Context, tmp_path: Path) -> None:
    add_vm(ctx)
    ctx.layout.vm("web").console_log.write_text(f"password={SECRET * 20000}")
    assert SECRET[:6] not in report(ctx, tmp_path)["vms/web/console.log"]


def test_names_that_become_the_same_are_kept_apart(ctx: Context, tmp_path: Path) -> None:
    for name in ("alice", "ALICE", "Alice"):
        (ctx.layout.vms / name).mkdir()
        (ctx.layout.vms / name / "vm.json").write_text("{}")
    assert {"vms/<user>/vm.json", "vms/<user>/vm.json.2", "vms/<user>/vm.json.3"} < set(report(ctx, tmp_path))


def test_links_and_pipes_are_not_followed(ctx: Context, tmp_path: Path) -> None:
    add_vm(ctx)
    paths = ctx.layout.vm("web")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "vm.json").write_text("{}")
    (ctx.layout.vms / "link").symlink_to(tmp_path / "elsewhere")
    paths.console_log.symlink_to(tmp_path / "elsewhere" / "vm.json")
    os.mkfifo(paths.qemu_log)
    paths.run.mkdir()
    files = report(ctx, tmp_path)
    assert not [name for name in files if "link" in name or "log" in name or "run" in name]
    assert len(json.loads(files["about.json"])["unreadable"]) == 3


def test_without_any_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    (tmp_path / "file").touch()
    settings = Settings(tmp_path / "file" / "home", tmp_path / "file" / "cache", tmp_path / "run", tmp_path / "t")
    assert set(report(Context(settings), tmp_path)) == {"about.json", "doctor.json", "home.txt"}


def test_only_this_user_can_read_it_and_nothing_is_overwritten(ctx: Context, tmp_path: Path) -> None:
    target = tmp_path / "report.tar.gz"
    assert write_bundle(ctx, target) == ["about.json", "doctor.json", "home.txt"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    before = target.read_bytes()
    with pytest.raises(AlreadyExists):
        write_bundle(ctx, target)
    assert target.read_bytes() == before
    dangling = tmp_path / "dangling"
    dangling.symlink_to(tmp_path / "nothing")
    with pytest.raises(AlreadyExists):
        write_bundle(ctx, dangling)
    with pytest.raises(InvalidInput):
        write_bundle(ctx, tmp_path / "nowhere" / "x")


def test_a_failed_write_leaves_nothing(ctx: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(AppcatError) as raised:
        write_bundle(ctx, out / "report.tar.gz")
    assert raised.value.code == "no-space"
    assert list(out.iterdir()) == []
