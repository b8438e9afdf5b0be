from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from appcat.errors import Busy, NotFound
from appcat.store import locks
from tests.unit.support.processes import REPOSITORY, eventually, fork_many, holding


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    """The lock of a vm called ``web``."""
    (tmp_path / "web").mkdir()
    return tmp_path / "web" / "op.lock"


def test_a_lock_nobody_made_is_free(lock: Path) -> None:
    assert not locks.is_held(lock)
    assert locks.holder(lock) is None


def test_holder_is_named_to_other_processes(lock: Path) -> None:
    with holding(lock, "clone") as child:
        assert locks.holder(lock) == locks.Holder("clone", child.pid)
        with pytest.raises(Busy) as caught, locks.hold(lock, "start", wait=0):
            pass
    assert caught.value.message == f"web is busy: clone (process {child.pid})"
    assert caught.value.exit_code == 4


def test_lock_without_a_signature_is_busy_all_the_same(lock: Path) -> None:
    descriptor = locks.open_lock(lock)
    assert locks.try_lock(descriptor)
    assert locks.busy(lock).message == "web is busy: another command"
    assert locks.is_held(lock)
    os.close(descriptor)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"verb": "x"}', '{"verb": "x", "pid": "y"}', "\0"])
def test_damaged_signature_names_nobody(lock: Path, text: str) -> None:
    lock.write_text(text)
    assert locks.busy(lock).message == "web is busy: another command"


def test_a_shorter_signature_replaces_a_longer_one_whole(lock: Path) -> None:
    with locks.hold(lock, "a very long verb indeed"):
        pass
    with locks.hold(lock, "stop"):
        assert locks.holder(lock) == locks.Holder("stop", os.getpid())


def test_lock_is_free_after_the_block_even_when_it_fails(lock: Path) -> None:
    with pytest.raises(ZeroDivisionError), locks.hold(lock, "divide"):
        raise ZeroDivisionError
    assert not locks.is_held(lock)


def test_kill_9_releases_the_lock(lock: Path) -> None:
    with holding(lock, "clone") as child:
        child.kill()
        assert locks.holder(lock) is None
        with locks.hold(lock, "start", wait=0):
            assert locks.holder(lock) == locks.Holder("start", os.getpid())


def test_who_waits_gets_the_lock_when_it_is_let_go(lock: Path) -> None:
    with holding(lock, "clone") as child:
        threading.Timer(0.05, child.let_go).start()
        with locks.hold(lock, "start"):
            assert locks.holder(lock) == locks.Holder("start", os.getpid())


def test_inherited_descriptor_keeps_the_lock_until_the_heir_dies(lock: Path) -> None:
    descriptor = locks.open_lock(lock)
    assert locks.try_lock(descriptor)
    heir = subprocess.Popen(["sleep", "60"], pass_fds=[descriptor])
    os.close(descriptor)
    try:
        assert locks.is_held(lock)
    finally:
        heir.kill()
        heir.wait()
    assert not locks.is_held(lock)


def test_children_do_not_inherit_a_lock_by_accident(lock: Path) -> None:
    with locks.hold(lock, "start"):
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        # Popen returns after exec, which has closed the descriptor.
        assert not locks.is_held(lock)
    finally:
        child.kill()
        child.wait()


def test_only_one_process_at_a_time(lock: Path, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")

    def count(_number: int) -> None:
        for _ in range(20):
            with locks.hold(lock, "count"):
                counter.write_text(str(int(counter.read_text()) + 1))

    fork_many(4, count)
    assert counter.read_text() == "80"


def test_looking_does_not_look_like_holding(lock: Path) -> None:
    one, other = locks.open_lock(lock), locks.open_lock(lock)
    assert locks.try_lock(one, shared=True)
    assert locks.try_lock(other, shared=True)
    assert not locks.is_held(lock)
    os.close(one)
    os.close(other)


def test_no_lock_in_a_directory_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="web does not exist"), locks.hold(tmp_path / "web" / "op.lock", "start"):
        pass


def test_who_waited_for_a_vm_that_was_deleted_is_told(lock: Path) -> None:
    failures: list[NotFound] = []

    def wait_for_it() -> None:
        try:
            with locks.hold(lock, "start"):
                pass
        except NotFound as error:
            failures.append(error)

    with holding(lock, "delete") as child:
        waiting = threading.Thread(target=wait_for_it)
        waiting.start()
        eventually(lambda: str(lock) in [file.path for file in psutil.Process().open_files()])
        shutil.rmtree(lock.parent)
        child.let_go()
        waiting.join()
    assert [error.hint for error in failures] == ["it has just been deleted"]


def test_a_lock_file_made_anew_is_another_lock(lock: Path) -> None:
    descriptor = locks.open_lock(lock)
    assert locks.try_lock(descriptor)
    lock.unlink()
    with locks.hold(lock, "create", wait=0):
        assert locks.holder(lock) == locks.Holder("create", os.getpid())
    os.close(descriptor)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="the filter knows x86_64 and aarch64")
@pytest.mark.skipif(sys.platform != "linux", reason="seccomp is Linux's")
def test_file_system_without_locks_is_named(lock: Path) -> None:
    argv = [sys.executable, "-m", "tests.unit.support.without_flock", str(lock)]
    said = subprocess.run(argv, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    code, message, hint = said.splitlines()
    assert code == "no-file-locks"
    assert str(lock.parent) in message
    assert "APPCAT_HOME" in hint
