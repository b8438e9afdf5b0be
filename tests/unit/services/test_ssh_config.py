from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from appcat.guest.identity import SshKey
from appcat.services import ssh_config
from appcat.services.context import Context
from appcat.services.ssh_config import default_config, include_line, install, uninstall
from appcat.settings import Settings
from appcat.store.files import make_private_directory
from tests.unit.support.listing import names_in
from tests.unit.support.samples import OTHER_UUID, sample_vm
from tests.unit.support.vms import add_vm

OTHERS = [
    b"",
    b"Host example\n  User me\n",
    b"# only a comment, without a newline at the end",
    b"\n\n\n",
    b"Host x\r\n  User windows\r\n",
    b"# caf\xe9 \xff\xfe in latin-1\nHost y\n\tPort 2222\n",
    b"# form feed \x0c, \x1c, \xc2\x85 and \xe2\x80\xa8 are no line ends here\nHost z\n",
    b"Include ~/.ssh/others/*\n",
    b"\xef\xbb\xbf# a byte order mark\nHost bom\n",
    b"Host nul\0\n",
]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "user" / ".ssh" / "config"
    path.parent.mkdir(parents=True)
    return path


def line_of(ctx: Context) -> bytes:
    return include_line(ctx).encode() + b"\n"


@pytest.mark.parametrize("content", OTHERS)
def test_what_else_is_in_the_file_stays_byte_for_byte(ctx: Context, config: Path, content: bytes) -> None:
    config.write_bytes(content)
    assert install(ctx, config) is True
    assert config.read_bytes() == line_of(ctx) + content
    assert uninstall(ctx, config) is True
    assert config.read_bytes() == content


@pytest.mark.parametrize("content", OTHERS)
def test_twice_is_once(ctx: Context, config: Path, content: bytes) -> None:
    config.write_bytes(content)
    assert uninstall(ctx, config) is False
    assert config.read_bytes() == content
    install(ctx, config)
    assert install(ctx, config) is False
    assert config.read_bytes() == line_of(ctx) + content
    uninstall(ctx, config)
    assert uninstall(ctx, config) is False
    assert config.read_bytes() == content


def test_the_line_is_known_after_an_editor_gave_it_another_end(ctx: Context, config: Path) -> None:
    config.write_bytes(line_of(ctx).replace(b"\n", b"\r\n") + b"Host x\r\n")
    assert install(ctx, config) is False
    assert uninstall(ctx, config) is True
    assert config.read_bytes() == b"Host x\r\n"


def test_a_missing_file_is_made_and_nothing_else(ctx: Context, tmp_path: Path) -> None:
    path = tmp_path / "fresh" / ".ssh" / "config"
    assert uninstall(ctx, path) is False
    assert not path.parent.exists()
    assert install(ctx, path) is True
    assert path.read_bytes() == line_of(ctx)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert names_in(path.parent) == ["config"]


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o640])
def test_the_mode_stays(ctx: Context, config: Path, mode: int) -> None:
    config.write_text("Host x\n")
    config.chmod(mode)
    install(ctx, config)
    assert config.stat().st_mode & 0o777 == mode
    uninstall(ctx, config)
    assert config.stat().st_mode & 0o777 == mode


@pytest.mark.parametrize("relative", [True, False])
def test_a_link_stays_a_link_and_its_target_changes(ctx: Context, config: Path, tmp_path: Path, relative: bool) -> None:
    kept = tmp_path / "dotfiles" / "ssh-config"
    kept.parent.mkdir()
    kept.write_text("Host x\n")
    config.symlink_to(os.path.relpath(kept, config.parent) if relative else kept)
    install(ctx, config)
    assert config.is_symlink()
    assert kept.read_bytes() == line_of(ctx) + b"Host x\n"
    uninstall(ctx, config)
    assert config.is_symlink()
    assert kept.read_text() == "Host x\n"


def test_a_link_to_what_is_not_there_yet_makes_it(ctx: Context, config: Path, tmp_path: Path) -> None:
    kept = tmp_path / "later"
    config.symlink_to(kept)
    install(ctx, config)
    assert config.is_symlink()
    assert kept.read_bytes() == line_of(ctx)


def test_each_home_has_a_line_of_its_own(ctx: Context, config: Path, tmp_path: Path, short: Path) -> None:
    other = Context(Settings(tmp_path / "other", tmp_path / "cache", short / "run", tmp_path / "templates"))
    make_private_directory(other.layout.vms)
    config.write_text("Host x\n")
    install(ctx, config)
    install(other, config)
    uninstall(ctx, config)
    assert config.read_bytes() == line_of(other) + b"Host x\n"


def test_only_the_very_line_is_taken_out(ctx: Context, config: Path) -> None:
    mine = include_line(ctx)
    content = f"# {mine}\n{mine} too\n  {mine}\n{mine.removesuffix(' # appcat')}\n"
    config.write_text(content)
    assert uninstall(ctx, config) is False
    assert config.read_text() == content


def test_the_users_own_file_is_meant(ctx: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_config() == tmp_path / ".ssh" / "config"
    install(ctx)
    assert (tmp_path / ".ssh" / "config").read_bytes() == line_of(ctx)


def test_install_mends_every_piece_that_can_be_mended(ctx: Context, config: Path) -> None:
    add_vm(ctx)
    add_vm(ctx, sample_vm("ruin", uuid=OTHER_UUID))
    ctx.layout.vm("ruin").spec.write_text("damaged")
    ctx.layout.vm("web").ssh_config.write_text("Host old\n")
    install(ctx, config)
    assert ctx.layout.vm("web").ssh_config.read_text() == ssh_config.ssh_config(ctx, "web")
    assert not ctx.layout.vm("ruin").ssh_config.exists()


# --- what ssh makes of it


def context_in(home: Path, short: Path) -> Context:
    ctx = Context(Settings(home, home / "cache", short / "run", home / "templates"))
    make_private_directory(ctx.layout.vms)
    return ctx


def understood(config: Path, name: str) -> dict[str, str]:
    """What ssh would do for ``ssh NAME`` with this configuration."""
    done = subprocess.run(["ssh", "-TG", "-F", str(config), name], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)


HOMES = [
    "home",
    "a home with spaces",
    "it's",
    "höme",
    "50%",
    "%h",
    "a#b",
    "star*",
    "what?",
    "[ab]",
    "a\\b",
    "$HOME",
    "~x",
]


@pytest.mark.parametrize("home", HOMES)
def test_ssh_knows_every_vm_wherever_the_home_is(tmp_path: Path, short: Path, config: Path, home: str) -> None:
    ctx = context_in(tmp_path / home, short)
    add_vm(ctx)
    config.write_text("Host *\n  Port 9\n  User nobody\n")
    install(ctx, config)
    add_vm(ctx, sample_vm("later", uuid=OTHER_UUID, ssh_port=20023, login="admin"))
    ssh_config.write_ssh_config(ctx, ctx.store.load("later"))
    for name, port, user in (("web", "20022", "root"), ("later", "20023", "admin")):
        told = understood(config, name)
        assert (told["hostname"], told["port"], told["user"]) == ("127.0.0.1", port, user)
        assert told["hostkeyalias"] == name
        assert told["stricthostkeychecking"] == "true"
        assert told["identitiesonly"] == "yes"
        assert told["identityfile"].replace("%%", "%") == str(ctx.layout.user_key)
        assert told["userknownhostsfile"].replace("%%", "%") == str(ctx.layout.vm(name).known_hosts)
    assert understood(config, "elsewhere")["port"] == "9"


def test_the_printed_block_is_enough(tmp_path: Path, short: Path) -> None:
    ctx = context_in(tmp_path / "a home", short)
    add_vm(ctx)
    alone = tmp_path / "web.conf"
    alone.write_text(ssh_config.ssh_config(ctx, "web"))
    assert understood(alone, "web")["port"] == "20022"


def test_known_hosts_take_several_names(ctx: Context) -> None:
    add_vm(ctx)
    paths = ctx.layout.vm("web")
    line = SshKey.generate().public_line
    paths.known_hosts.write_text(f"web {line}\n")
    ssh_config.write_known_hosts(paths, ["web", "shop"])
    assert paths.known_hosts.read_text().split()[0] == "web,shop"
    assert paths.known_hosts.read_text().split(maxsplit=1)[1].strip() == " ".join(line.split()[:2])
