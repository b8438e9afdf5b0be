from __future__ import annotations

import os
from pathlib import Path

import pytest

from appcat.errors import QemuError, Unavailable
from appcat.services import hosts_file, keeping, uninstall
from appcat.services.context import Context
from appcat.services.operations import operation, prepare
from appcat.settings import Settings
from appcat.store.files import make_private_directory
from tests.unit.services.test_keeping import keeper_pid
from tests.unit.support.processes import eventually
from tests.unit.support.samples import sample_network, sample_run, sample_vm
from tests.unit.support.vms import add_vm


@pytest.fixture(autouse=True)
def somebody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A user with a home directory of their own, and a service manager that only notes what it is asked."""
    user = tmp_path / "user"
    (user / "bin").mkdir(parents=True)
    systemctl = user / "bin" / "systemctl"
    systemctl.write_text(f'#!/bin/sh\necho "$@" >> {user}/asked\nexit ${{REFUSE:-0}}\n')
    systemctl.chmod(0o755)
    monkeypatch.setenv("HOME", str(user))
    monkeypatch.setenv("PATH", f"{user / 'bin'}:/usr/bin:/bin")
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "APPCAT_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("APPCAT_HOME", str(tmp_path / "home"))
    return user


def fill(ctx: Context) -> None:
    """A home in which much has happened."""
    home, cache = ctx.layout.home, ctx.settings.cache
    add_vm(ctx, sample_vm("web"), sample_run())
    (ctx.layout.vm("web").disks).mkdir()
    (ctx.layout.vm("web").disks / "data.qcow2").write_bytes(b"x" * 9999)
    for name in ("broken", ".create-xyz", ".delete-old-1234", "Bad Name"):
        (ctx.layout.vms / name).mkdir()
        (ctx.layout.vms / name / "vm.json").write_text("no json")
    (ctx.layout.vms / "empty").mkdir()
    ctx.networks.save(sample_network())
    ctx.layout.user_key.parent.mkdir()
    for path in (ctx.layout.user_key, ctx.layout.keeper_log, ctx.layout.home_lock, home / "keeper.log.1"):
        path.write_text("x")
    (home / ".keeper.json.0123456789ab.tmp").write_text("x")
    with operation(ctx, "start", ["web"]):
        (home / "events.jsonl.1").write_text("{}\n")
    prepare(ctx, "build", [])
    for name in ("id_ed25519", "web.known_hosts", "token"):
        make_private_directory(ctx.layout.remotes / "0123456789abcdef")
        (ctx.layout.remotes / "0123456789abcdef" / name).write_text("x")
    ctx.layout.contexts.write_text("{}")
    for directory in ("images/recipes", "images/staging", "images/" + "0a" * 32, "packages/archives"):
        make_private_directory(cache / directory)
    (cache / "probe.json").write_text("{}")
    (cache / "switch.json").write_text("{}")
    (cache / "images" / ("0a" * 32) / "kernel").write_text("x")
    make_private_directory(ctx.settings.runtime)
    (ctx.settings.runtime / "share0").symlink_to(ctx.layout.home.parent / "user")


def test_nothing_is_left_and_a_second_time_there_is_nothing_to_do(ctx: Context, tmp_path: Path, short: Path) -> None:
    fill(ctx)
    planned = uninstall.plan(ctx)
    assert [part.what for part in planned.parts if part.kind == "vm"] == ["Bad Name", "broken", "empty", "web"]
    assert all(part.size for part in planned.parts if part.kind in ("vm", "home", "cache") and part.what != "empty")
    assert planned.kept == ()
    assert ctx.layout.vm("web").spec.exists()
    done = uninstall.uninstall(ctx)
    assert done.parts == planned.parts and done.kept == ()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["user"]
    assert list(short.iterdir()) == []
    assert uninstall.uninstall(ctx) == uninstall.Plan((), ())


def test_names_in_the_hosts_file_go_or_nothing_does(
    ctx: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts = tmp_path / "etc" / "hosts"
    hosts.parent.mkdir()
    hosts.write_text("127.0.0.1 localhost\n")
    monkeypatch.setattr(hosts_file, "HOSTS", hosts)
    add_vm(ctx, sample_vm("web", address="127.77.3.4"))
    assert not [part for part in uninstall.plan(ctx).parts if part.kind == "hosts"]
    hosts_file.install(ctx, hosts)
    planned = uninstall.plan(ctx)
    assert [part.what for part in planned.parts if part.kind == "hosts"] == [f"the names of these vms in {hosts}"]

    def refuse(*_: object) -> None:
        raise Unavailable("not permitted", code="not-permitted")

    with monkeypatch.context() as patch:
        patch.setattr(hosts_file, "rewrite", refuse)
        with pytest.raises(Unavailable, match="not permitted"):
            uninstall.uninstall(ctx)
    assert ctx.layout.vm("web").spec.exists()
    uninstall.uninstall(ctx)
    assert hosts.read_text() == "127.0.0.1 localhost\n"
    assert not ctx.layout.home.exists()


def test_what_is_not_appcats_is_kept_and_named(ctx: Context, tmp_path: Path) -> None:
    fill(ctx)
    cache = ctx.settings.cache
    foreign = [
        ctx.layout.home / "notes.txt",
        ctx.layout.home / "photos" / "cat.jpg",
        ctx.layout.vms / "notes.txt",
        ctx.layout.vms / "films" / "film.mkv",
        ctx.layout.user_key.parent / "id_rsa",
        cache / "venv" / "bin" / "python",
        cache / "images" / "holiday" / "sea.jpg",
        cache / "packages" / "parcel",
    ]
    for path in foreign:
        make_private_directory(path.parent)
        path.write_text("mine")
    named = {str(path if path.parent.name in {"home", "vms", "ssh", "packages"} else path.parent) for path in foreign}
    named = {name.replace("/venv/bin", "/venv") for name in named}
    assert set(uninstall.plan(ctx).kept) == named
    assert set(uninstall.uninstall(ctx).kept) == named
    left = {path for root in (ctx.layout.home, cache) for path in root.rglob("*") if path.is_file()}
    assert left == set(foreign)


def test_links_are_removed_and_never_followed(ctx: Context, tmp_path: Path) -> None:
    fill(ctx)
    outside = tmp_path / "outside"
    for name in ("vm", "images", "disk", "keys"):
        make_private_directory(outside / name)
        (outside / name / "vm.json").write_text("precious")
    (ctx.layout.vms / "linked").symlink_to(outside / "vm")
    (ctx.layout.vm("web").disks / "away").symlink_to(outside / "disk")
    (ctx.layout.vms / "broken" / "disks").symlink_to(outside / "disk")
    (ctx.layout.home / "keeper.json").symlink_to(outside / "keys" / "vm.json")
    images = ctx.layout.images
    images.rename(tmp_path / "moved")
    images.symlink_to(outside / "images")
    uninstall.uninstall(ctx)
    assert len([path for path in outside.rglob("*") if path.is_file()]) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["moved", "outside", "user"]


def test_a_sockets_directory_that_somebody_else_prepared_is_kept(ctx: Context, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").touch()
    ctx.settings.runtime.symlink_to(tmp_path / "elsewhere")
    assert uninstall.uninstall(ctx).kept == (str(ctx.settings.runtime),)
    assert (tmp_path / "elsewhere" / "file").exists()


def test_keeper_is_ended_and_not_that_of_another_home(ctx: Context, tmp_path: Path) -> None:
    other = Context(Settings(tmp_path / "other", tmp_path / "cache2", ctx.settings.runtime, tmp_path / "templates"))
    make_private_directory(other.layout.home)
    keeping.ensure(other)
    keeping.ensure(ctx)
    mine, theirs = keeper_pid(ctx), keeper_pid(other)
    try:
        assert keeping.is_helper(ctx, mine) and not keeping.is_helper(ctx, theirs)
        assert not keeping.is_helper(ctx, os.getpid()) and not keeping.is_helper(ctx, 2**22 - 1)
        uninstall.uninstall(ctx)
        assert not keeping.is_helper(ctx, mine) and keeping.is_helper(other, theirs)
        assert not ctx.layout.home.exists()
    finally:
        uninstall.uninstall(other)
        eventually(lambda: not keeping.is_helper(other, theirs))


@pytest.mark.parametrize("refuse", ["0", "1"])
def test_service_goes_when_it_is_this_homes(
    ctx: Context, somebody: Path, refuse: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = keeping.install(ctx)
    wants = unit.parent / "default.target.wants" / unit.name
    wants.parent.mkdir()
    wants.symlink_to(unit)
    monkeypatch.setenv("REFUSE", refuse)
    assert [part.what for part in uninstall.plan(ctx).parts if part.kind == "service"] == [str(unit)]
    uninstall.uninstall(ctx)
    assert not unit.exists()
    assert "disable --now appcat-keeper.service" in (somebody / "asked").read_text()
    assert refuse == "0" or not wants.is_symlink()


def test_service_of_another_home_stays(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APPCAT_HOME", "/somewhere/else")
    unit = keeping.install(Context(Settings.load()))
    uninstall.uninstall(ctx)
    assert unit.exists()


def test_ssh_line_and_completion_go(ctx: Context, somebody: Path) -> None:
    from appcat.services import ssh_config

    config, bashrc = somebody / ".ssh" / "config", somebody / ".bashrc"
    config.parent.mkdir()
    config.write_text(f"{ssh_config.include_line(ctx)}\nHost x\n")
    script = somebody / ".bash_completions" / "appcat.sh"
    script.parent.mkdir()
    script.write_text("complete appcat")
    bashrc.write_text(f"alias x=y\nsource '{script}'\nalias appcat=z\n")
    assert {part.kind for part in uninstall.plan(ctx).parts} == {"home", "ssh", "completion"}
    uninstall.uninstall(ctx)
    assert config.read_text() == "Host x\n"
    assert bashrc.read_text() == "alias x=y\nalias appcat=z\n"
    assert not script.exists()


def test_completion_stays_while_the_default_home_is_in_use(ctx: Context, somebody: Path) -> None:
    script = somebody / ".zfunc" / "_appcat"
    script.parent.mkdir()
    script.write_text("appcat")
    make_private_directory(somebody / ".local" / "share" / "appcat")
    uninstall.uninstall(ctx)
    assert script.exists()


def test_a_vm_that_cannot_be_removed_keeps_the_home_and_no_other_vm(
    ctx: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(ctx)
    real = uninstall.delete

    def stubborn(ctx: Context, name: str, *, force: bool = False) -> None:
        if name == "broken":
            raise QemuError("it does not die", hint="wait")
        real(ctx, name, force=force)

    monkeypatch.setattr(uninstall, "delete", stubborn)
    with pytest.raises(QemuError):
        uninstall.uninstall(ctx)
    assert ctx.store.names() == ["broken"]
    monkeypatch.undo()
    monkeypatch.setenv("HOME", str(ctx.layout.home.parent / "user"))
    uninstall.uninstall(ctx)
    assert not ctx.layout.home.exists()


def test_cache_that_others_share_is_left_when_asked(ctx: Context) -> None:
    fill(ctx)
    kept = sorted(ctx.settings.cache.rglob("*"))
    uninstall.uninstall(ctx, keep_cache=True)
    assert not ctx.layout.home.exists()
    assert sorted(ctx.settings.cache.rglob("*")) == kept
