from __future__ import annotations

import multiprocessing
import os
import shlex
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appcat.errors import Conflict, InvalidInput, Unavailable
from appcat.services import hosts_file
from appcat.services.context import Context
from appcat.services.hosts_file import (
    Entry,
    Section,
    Taken,
    entries,
    install,
    is_current,
    is_installed,
    markers,
    names_of,
    remove,
)
from tests.unit.support.listing import names_in
from tests.unit.support.processes import NOBODY
from tests.unit.support.samples import OTHER_UUID, sample_vm
from tests.unit.support.vms import add_vm

OURS, OTHERS = Path("/home/ann/cats"), Path("/home/bob/cats")
BEGIN, END = (line.decode() for line in markers(OURS))
CONTENTS = st.lists(st.sampled_from([b"127.0.0.1 localhost", b"# appcat", b"\xff", b"\n", b"\r\n", b"\r", b" "])).map(
    b"".join
)


@pytest.fixture
def two(ctx: Context) -> Context:
    """A home with two vms that have addresses, one that has none and one that is broken."""
    add_vm(ctx, sample_vm("web", address="127.77.3.4"))
    add_vm(ctx, sample_vm("db", address="127.77.3.5", uuid=OTHER_UUID))
    add_vm(ctx, sample_vm("old", uuid="c2d2a6b0-1111-4222-8333-444455556667"))
    add_vm(ctx, sample_vm("bad", address="127.77.3.6", uuid="c2d2a6b0-1111-4222-8333-444455556668"))
    ctx.layout.vm("bad").spec.write_text("{")
    return ctx


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "etc" / "hosts"
    path.parent.mkdir()
    path.write_text("127.0.0.1 localhost\n")
    return path


def section(ctx: Context, *lines: str) -> str:
    begin, end = (line.decode() for line in markers(ctx.layout.home))
    return "".join(f"{line}\n" for line in (begin, *lines, end))


def test_every_vm_with_an_address_has_a_line(two: Context) -> None:
    assert list(map(str, entries(two))) == ["127.77.3.5 db db.appcat", "127.77.3.4 web web.appcat"]


def test_what_is_installed_is_kept_up_to_date_and_goes_without_a_trace(two: Context, path: Path) -> None:
    assert not is_installed(two, path)
    assert install(two, path).changed
    assert path.read_text() == "127.0.0.1 localhost\n" + section(
        two, "127.77.3.5 db db.appcat", "127.77.3.4 web web.appcat"
    )
    assert is_installed(two, path)
    assert not install(two, path).changed
    assert is_current(two, path)
    two.store.remove("db")
    assert not is_current(two, path)
    with path.open("a") as file:
        file.write("10.0.0.9 later\n")
    assert install(two, path).changed
    assert path.read_text() == "127.0.0.1 localhost\n" + section(two, "127.77.3.4 web web.appcat") + "10.0.0.9 later\n"
    assert remove(two, path)
    assert path.read_text() == "127.0.0.1 localhost\n10.0.0.9 later\n"
    assert not remove(two, path)
    assert names_in(path.parent) == ["hosts"]


def test_without_vms_nothing_is_installed(ctx: Context, path: Path) -> None:
    assert not install(ctx, path).changed
    path.write_text("127.0.0.1 localhost\n" + section(ctx, "127.77.3.4 gone gone.appcat"))
    assert install(ctx, path).changed
    assert path.read_text() == "127.0.0.1 localhost\n"


def test_a_file_that_is_not_there_is_made(two: Context, path: Path) -> None:
    path.unlink()
    assert install(two, path).changed
    assert path.stat().st_mode & 0o777 == 0o644
    assert remove(two, path)
    assert path.read_text() == ""


def test_names_that_somebody_else_has_given_are_left_out_and_told(two: Context, path: Path) -> None:
    path.write_text("10.0.0.7 WEB other # db\n10.0.0.8 web.appcat\n")
    done = install(two, path)
    assert done.entries == (Entry("127.77.3.5", ("db", "db.appcat")),)
    assert done.taken == (Taken("web", "10.0.0.7"), Taken("web.appcat", "10.0.0.8"))
    path.write_text(path.read_text().replace("10.0.0.8 web.appcat\n", ""))
    assert install(two, path).entries[1] == Entry("127.77.3.4", ("web.appcat",))


def test_homes_have_their_names_side_by_side(two: Context, path: Path) -> None:
    theirs = Section.find(path.read_bytes(), OTHERS, path).filled(["127.77.9.9 web web.appcat"])
    path.write_bytes(theirs)
    done = install(two, path)
    assert [taken.name for taken in done.taken] == ["web", "web.appcat"]
    assert path.read_bytes().startswith(theirs)
    assert remove(two, path)
    assert path.read_bytes() == theirs


@given(CONTENTS, st.lists(st.sampled_from([b"more\n", b"more"]), max_size=1))
def test_all_else_stays_to_the_byte(content: bytes, appended: list[bytes]) -> None:
    """Whatever the order in which two homes come and go, and whatever is added behind them meanwhile."""

    def having(before: bytes, home: Path, lines: list[str]) -> bytes:
        return Section.find(before, home, Path("hosts")).filled(lines)

    with_ours = having(content, OURS, ["127.77.1.1 a"])
    both = having(with_ours, OTHERS, ["127.77.1.2 b"])
    assert having(having(both, OURS, []), OTHERS, []) == content
    assert having(having(both, OTHERS, []), OURS, []) == content
    assert having(having(both, OTHERS, []), OURS, ["127.77.1.1 a"]) == with_ours
    assert names_of(both)["a"] == "127.77.1.1"
    assert names_of(both)["b"] == "127.77.1.2"
    if content.endswith(b"\n") and appended:
        longer = with_ours + appended[0]
        assert having(longer, OURS, []) == content + appended[0]


@pytest.mark.parametrize(
    "text",
    [
        f"{BEGIN}\n127.77.1.1 a\n",
        f"{END}\n",
        f"{END}\n{BEGIN}\n",
        f"{BEGIN}\n{BEGIN}\n{END}\n",
        f"{BEGIN}\n{END}\n{BEGIN}\n{END}\n",
    ],
)
def test_damaged_markers_are_not_guessed_about(text: str) -> None:
    with pytest.raises(Conflict, match="are damaged") as caught:
        Section.find(text.encode(), OURS, Path("hosts"))
    assert caught.value.code == "hosts-damaged"
    assert Section.find(text.encode(), OTHERS, Path("hosts")).lines == ()


def test_markers_are_one_line_whatever_the_home_is_called() -> None:
    for name in ("/tmp/a b\n# x", "/tmp/\udcff", "/tmp/ä"):
        begin, end = markers(Path(name))
        content = Section.find(b"", Path(name), Path("hosts")).filled(["127.77.1.1 a"])
        assert content.splitlines() == [begin, b"127.77.1.1 a", end]
        assert names_of(content) == {"a": "127.77.1.1"}


def test_a_link_is_followed_and_stays(two: Context, path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(path)
    assert install(two, link).changed
    assert link.is_symlink()
    assert "127.77.3.4 web" in path.read_text()
    assert names_in(tmp_path / "etc") == ["hosts"]


def test_what_is_no_file_is_refused(two: Context, tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for path in (tmp_path, Path("/dev/null"), loop):
        with pytest.raises(InvalidInput) as caught:
            install(two, path)
        assert caught.value.code == "invalid-hosts-file"


def test_what_a_killed_one_has_left_is_swept(two: Context, path: Path) -> None:
    left = path.with_name(".hosts.0123456789ab.tmp")
    other = path.with_name(".hosts.mine.tmp")
    left.write_text("x")
    other.write_text("x")
    install(two, path)
    assert names_in(path.parent) == [".hosts.mine.tmp", "hosts"]


def _install(ctx: Context, path: Path) -> None:
    install(ctx, path)


def test_homes_that_come_at_the_same_time_lose_nothing(ctx: Context, path: Path, tmp_path: Path) -> None:
    homes = [ctx.but(settings=_settings(ctx, tmp_path / f"home-{number}")) for number in range(8)]
    for number, home in enumerate(homes):
        add_vm(home, sample_vm(f"vm-{number}", address=f"127.77.3.{number + 1}"))
    with multiprocessing.get_context("fork").Pool(4) as pool:
        pool.starmap(_install, [(home, path) for home in homes])
    assert [names_of(path.read_bytes()).get(f"vm-{number}") for number in range(8)] == [
        f"127.77.3.{number + 1}" for number in range(8)
    ]


def _settings(ctx: Context, home: Path) -> object:
    import dataclasses

    return dataclasses.replace(ctx.settings, home=home)


def test_who_may_not_is_told_what_root_would_do(two: Context, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise Unavailable("not permitted while writing hosts", code="not-permitted")

    monkeypatch.setattr(hosts_file, "rewrite", refuse)
    with pytest.raises(Unavailable) as caught:
        install(two, path)
    line = caught.value.hint.removeprefix("let root do it: ")
    assert shlex.split(line)[:4] == ["sudo", "env", f"APPCAT_HOME={two.layout.home}", sys.executable]
    assert shlex.split(line)[-4:] == ["hosts", "install", "--file", str(path)]
    assert shlex.split(hosts_file.sudo_line(two, "remove"))[-2:] == ["hosts", "remove"]


def _as_nobody(ctx: Context, path: Path, answer: multiprocessing.Queue[str]) -> None:
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    try:
        install(ctx, path)
        answer.put("done")
    except Unavailable as error:
        answer.put(f"{error.code} {error.hint}")


@pytest.mark.skipif(os.getuid() != 0, reason="another user's file takes root to make")
def test_another_users_file_is_left_alone(two: Context, path: Path) -> None:
    for directory in (two.layout.home, two.layout.vms, two.layout.vm("web").root, two.layout.vm("db").root):
        directory.chmod(0o755)
    for name in ("web", "db"):
        two.layout.vm(name).spec.chmod(0o644)
    for parent in (path.parent, *path.parents):
        if os.access(parent, os.W_OK) and str(parent).startswith("/tmp/"):
            parent.chmod(0o755)
    before = path.read_bytes()
    forked = multiprocessing.get_context("fork")
    answer: multiprocessing.Queue[str] = forked.Queue()
    child = forked.Process(target=_as_nobody, args=(two, path, answer))
    child.start()
    assert answer.get(timeout=60).startswith("not-permitted let root do it: sudo env")
    child.join()
    assert path.read_bytes() == before
    assert names_in(path.parent) == ["hosts"]
