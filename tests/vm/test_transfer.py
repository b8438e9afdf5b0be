"""Files into a guest and out of it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from pathlib import Path

import pytest

from tests.cat import Cat, wait_until

pytestmark = [pytest.mark.vm, pytest.mark.xdist_group("transfer")]

LISTING = 'cd "$1" && find . | sort | while read -r name; do stat -c "%n %A %h %Y" "$name"; done'


@pytest.fixture
def room(shared: Cat, request: pytest.FixtureRequest) -> str:
    """An empty directory in the guest."""
    path = f"/tmp/{request.node.name}"[:60].rstrip("[]")
    shared("vm", "exec", "web", "--", "mkdir", path)
    return path


def guest(cat: Cat, script: str, *args: str) -> str:
    return cat("vm", "exec", "web", "--", "sh", "-c", script, "sh", *args)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "sub" / "empty").mkdir(parents=True)
    (root / "file").write_bytes(os.urandom(300_000))
    os.link(root / "file", root / "twin")
    (root / "link").symlink_to("../nowhere")
    (root / ("grün" * 30)).write_text("long and green")
    (root / "/".join(["d" * 90] * 3)).mkdir(parents=True)
    (root / "/".join(["d" * 90] * 3) / "deep").write_text("deep")
    (root / "sub" / "tool").write_text("#!/bin/sh\n")
    (root / "sub" / "tool").chmod(0o751)
    (root / "sub" / "empty").chmod(0o555)
    for path in sorted(root.rglob("*"), reverse=True):
        os.utime(path, (1e9, 1e9), follow_symlinks=False)
    return root


def listing(root: Path) -> list[tuple[object, ...]]:
    found = []
    for path in sorted(root.rglob("*")):
        info = path.lstat()
        content = path.readlink() if path.is_symlink() else path.read_bytes() if path.is_file() else None
        moment = None if path.is_symlink() else info.st_mtime  # busybox leaves a link's at the time of the copy
        found.append((str(path.relative_to(root)), info.st_mode, info.st_nlink, moment, content))
    return found


def test_tree_there_and_back(shared: Cat, tree: Path, room: str, tmp_path: Path) -> None:
    told = json.loads(shared("vm", "cp", "--json", str(tree), f"web:{room}"))
    assert told == {"files": 6, "bytes": 300_000 + 14 + 10 + 4}
    seen = guest(shared, LISTING, f"{room}/tree").splitlines()
    assert "./sub/empty dr-xr-xr-x 2 1000000000" in seen
    assert "./sub/tool -rwxr-x--x 1 1000000000" in seen
    assert "./sub drwxr-xr-x 3 1000000000" in seen
    assert any(line.startswith("./twin -rw-r--r-- 2") for line in seen)
    (tmp_path / "back").mkdir()
    shared("vm", "cp", f"web:{room}/tree", str(tmp_path / "back"))
    assert listing(tmp_path / "back" / "tree") == listing(tree)


def test_new_name_both_ways(shared: Cat, tmp_path: Path, room: str) -> None:
    (tmp_path / "notes").write_text("first")
    shared("vm", "cp", str(tmp_path / "notes"), f"web:{room}/renamed")
    assert guest(shared, 'cat "$1"', f"{room}/renamed") == "first"
    (tmp_path / "notes").write_text("second")
    shared("vm", "cp", str(tmp_path / "notes"), f"web:{room}/renamed")
    shared("vm", "cp", f"web:{room}/renamed", str(tmp_path / "got"))
    assert (tmp_path / "got").read_text() == "second"
    shared("vm", "cp", f"web:{room}", str(tmp_path / "folder"))
    assert (tmp_path / "folder" / "renamed").read_text() == "second"


def test_contents_of_the_present_directory(shared: Cat, tree: Path, room: str, tmp_path: Path) -> None:
    shared("vm", "cp", f"{tree}/sub/.", f"web:{room}")
    assert guest(shared, 'ls "$1"', room).split() == ["empty", "tool"]
    shared("vm", "cp", f"web:{room}/.", str(tmp_path))
    assert (tmp_path / "tool").stat().st_mode & 0o777 == 0o751


def test_several_sources_and_odd_names(shared: Cat, tmp_path: Path, room: str) -> None:
    names = ["-r", "a b", "it's", "back\\slash", "new\nline"]
    for name in names:
        (tmp_path / name).write_text(name)
    shared("vm", "cp", *(str(tmp_path / name) for name in names), f"web:{room}")
    (tmp_path / "back").mkdir()
    shared("vm", "cp", *(f"web:{room}/{name}" for name in names), str(tmp_path / "back"))
    assert {path.name: path.read_text() for path in (tmp_path / "back").iterdir()} == {name: name for name in names}


def test_relative_paths_begin_at_home(shared: Cat, tmp_path: Path) -> None:
    (tmp_path / "at-home").write_text("x")
    shared("vm", "cp", str(tmp_path / "at-home"), "web:")
    assert guest(shared, "cat /root/at-home") == "x"
    shared("vm", "cp", "web:at-home", str(tmp_path / "a"))
    shared("vm", "cp", "web:~/at-home", str(tmp_path / "b"))
    assert (tmp_path / "a").read_text() == (tmp_path / "b").read_text() == "x"


def test_some_megabytes(shared: Cat, tmp_path: Path, room: str) -> None:
    data = os.urandom(8 << 20)
    (tmp_path / "big").write_bytes(data)
    shared("vm", "cp", str(tmp_path / "big"), f"web:{room}")
    assert guest(shared, 'sha256sum < "$1"', f"{room}/big").split()[0] == hashlib.sha256(data).hexdigest()
    shared("vm", "cp", f"web:{room}/big", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == data
    guest(shared, 'rm "$1"', f"{room}/big")


def test_links_and_special_files(shared: Cat, tmp_path: Path, room: str) -> None:
    guest(shared, 'cd "$1"; mkfifo pipe; mknod zero c 1 5; ln -s /etc/passwd link; echo x >file', room)
    done = shared.try_("vm", "cp", f"web:{room}", str(tmp_path / "got"))
    assert done.returncode == 0
    assert "is a device" in done.stderr
    assert "is a pipe" in done.stderr
    assert sorted(path.name for path in (tmp_path / "got").iterdir()) == ["file", "link"]
    assert (tmp_path / "got" / "link").readlink() == Path("/etc/passwd")


def test_refusals_change_nothing(shared: Cat, tree: Path, tmp_path: Path, room: str) -> None:
    file = str(tree / "file")
    shared.fails("invalid-input", "vm", "cp", "--json", file, file)
    shared.fails("invalid-input", "vm", "cp", "--json", "web:/a", "web:/b")
    shared.fails("invalid-input", "vm", "cp", "--json", file)
    shared.fails("no-such-file", "vm", "cp", "--json", f"{tree}/none", f"web:{room}")
    shared.fails("no-such-file", "vm", "cp", "--json", f"web:{room}/none", str(tmp_path))
    shared.fails("no-such-directory", "vm", "cp", "--json", file, f"web:{room}/none/x")
    shared.fails("no-such-directory", "vm", "cp", "--json", f"web:{room}", f"{tmp_path}/none/x")
    shared.fails("invalid-input", "vm", "cp", "--json", file, f"{tree}/link", f"web:{room}/new")
    shared.fails("invalid-input", "vm", "cp", "--json", f"web:{room}", file)
    shared.fails("vm-not-found", "vm", "cp", "--json", file, "nobody:/")
    assert guest(shared, 'ls -A "$1"', room) == ""


def test_vm_that_does_not_run(shared: Cat, tmp_path: Path) -> None:
    shared.create("sleeper")
    shared.fails("vm-not-running", "vm", "cp", "--json", str(tmp_path), "sleeper:/")
    shared("vm", "delete", "sleeper", "--force")


def test_full_disk_in_the_guest(shared: Cat, tmp_path: Path) -> None:
    with (tmp_path / "big").open("wb") as file:
        file.truncate(200 << 20)
    error = shared.fails("copy-failed", "vm", "cp", "--json", str(tmp_path / "big"), "web:/data")
    assert "No space left" in error["message"]
    guest(shared, "rm -f /data/big")


def test_interrupt_leaves_no_half_file(shared: Cat, tmp_path: Path) -> None:
    guest(shared, "dd if=/dev/zero of=/tmp/large bs=1M count=40 2>/dev/null")
    process = shared.popen("vm", "cp", "web:/tmp/large", str(tmp_path / "got"))
    wait_until(lambda: list(tmp_path.glob(".appcat-cp-*")), what="the beginning of the copy")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert list(tmp_path.iterdir()) == []
    guest(shared, "rm /tmp/large")
