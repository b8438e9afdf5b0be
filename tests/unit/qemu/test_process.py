from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from appcat.errors import MissingTool, Unavailable
from appcat.qemu import process
from appcat.store import locks
from tests.unit.support.processes import PATIENCE, eventually
from tests.unit.support.qemu import idle_argv, needs_qemu, spawned
from tests.unit.support.samples import OTHER_UUID, UUID


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process whose command line carries a uuid, as a QEMU's does."""
    code = "import time; time.sleep(60)"
    with spawned([sys.executable, "-c", code, "-uuid", UUID], tmp_path / "log") as child:
        # The parent of a vfork goes on a moment before the kernel shows the new command line.
        eventually(lambda: process.runs_vm(child.pid, UUID))
        yield child


def is_alive(child: subprocess.Popen[bytes]) -> bool:
    return child.poll() is None


def test_spawned_process_is_detached_and_inherits_only_what_it_should(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    code = (
        "import os, sys; print(os.getcwd(), os.getsid(0) == os.getpid(), repr(sys.stdin.read()),"
        f" os.path.exists('/dev/fd/{read_end}'), os.path.exists('/dev/fd/{write_end}'));"
        " print('oops', file=sys.stderr)"
    )
    log = tmp_path / "qemu.log"
    log.write_text("of an earlier start")
    with spawned([sys.executable, "-c", code], log, [write_end]) as child:
        assert child.wait(PATIENCE) == 0
    os.close(read_end)
    os.close(write_end)
    assert sorted(log.read_text().splitlines()) == ["/ True '' False True", "oops"]


def test_missing_qemu_is_named_with_its_package(tmp_path: Path) -> None:
    with pytest.raises(MissingTool, match="qemu-system-x86_64 is not installed") as caught:
        process.spawn([str(tmp_path / "qemu-system-x86_64")], tmp_path / "log", [])
    assert "qemu-system-x86" in caught.value.hint


def test_log_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="while starting QEMU"):
        process.spawn(["true"], tmp_path, [])


def test_living_process_is_recognised_by_its_uuid(sleeper: subprocess.Popen[bytes]) -> None:
    assert process.runs_vm(sleeper.pid, UUID)
    assert not process.runs_vm(sleeper.pid, OTHER_UUID)
    assert not process.runs_vm(sleeper.pid, UUID[:8])


def test_ended_process_runs_nothing(sleeper: subprocess.Popen[bytes]) -> None:
    with process.Handle(sleeper.pid) as handle:
        sleeper.kill()
        assert handle.wait(PATIENCE)
    assert not process.runs_vm(sleeper.pid, UUID)  # a zombie, not yet waited for
    sleeper.wait()
    assert not process.runs_vm(sleeper.pid, UUID)
    assert process.started_at(sleeper.pid) is None


def test_start_time_tells_processes_apart(sleeper: subprocess.Popen[bytes]) -> None:
    started = process.started_at(sleeper.pid)
    assert started is not None
    assert started == process.started_at(sleeper.pid) != process.started_at(os.getppid())
    assert started <= time.time() + 1


def test_handle_notices_the_end(sleeper: subprocess.Popen[bytes]) -> None:
    with process.Handle(sleeper.pid) as handle:
        assert not handle.wait(0)
        handle.signal(signal.SIGTERM)
        assert handle.wait(PATIENCE)
        sleeper.wait()
        handle.signal(signal.SIGTERM)  # gone: nothing to do, nothing raised
    handle.close()


def test_no_handle_of_a_process_that_is_gone(sleeper: subprocess.Popen[bytes]) -> None:
    sleeper.kill()
    sleeper.wait()
    with pytest.raises(ProcessLookupError):
        process.Handle(sleeper.pid)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("import os; os.kill(os.getpid(), 9)", "QEMU was killed by SIGKILL"),
        ("import os; os.abort()", "QEMU was killed by SIGABRT"),
        ("raise SystemExit(3)", "QEMU ended with status 3"),
        ("", "QEMU ended with status 0"),
    ],
)
def test_handle_tells_how_a_process_ended(tmp_path: Path, code: str, expected: str) -> None:
    argv = [sys.executable, "-c", f"import sys; sys.stdin.read()\n{code}"]
    child = subprocess.Popen(argv, stdin=subprocess.PIPE)
    with process.Handle(child.pid) as handle:
        child.communicate()
        status = handle.wait_status()
    if status is None:
        pytest.skip("this kernel does not tell a stranger's exit status (Linux 6.15 does)")
    assert process.describe_status(status) == expected
    assert process.is_kill(status) is ("killed" in expected)


def test_living_process_has_no_status_yet(sleeper: subprocess.Popen[bytes]) -> None:
    with process.Handle(sleeper.pid) as handle:
        assert handle.wait_status() is None


def test_signal_without_a_name_is_described() -> None:
    assert process.describe_status(signal.SIGRTMIN + 1) == f"QEMU was killed by signal {signal.SIGRTMIN + 1}"


def test_kill_asks_before_it_strikes(sleeper: subprocess.Popen[bytes]) -> None:
    process.kill(sleeper.pid, functools.partial(process.runs_vm, uuid=OTHER_UUID))
    assert is_alive(sleeper)
    process.kill(sleeper.pid, functools.partial(process.runs_vm, uuid=UUID))
    assert sleeper.wait(PATIENCE) == -signal.SIGKILL


def test_killing_what_is_gone_is_fine(sleeper: subprocess.Popen[bytes]) -> None:
    sleeper.kill()
    sleeper.wait()
    process.kill(sleeper.pid, lambda _pid: pytest.fail("nobody to ask about"))


@pytest.fixture
def locked_qemu(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """A real QEMU that has inherited a held lock, and the lock."""
    lock = tmp_path / "run.lock"
    descriptor = locks.open_lock(lock)
    assert locks.try_lock(descriptor)
    with spawned(idle_argv(UUID), tmp_path / "log", [descriptor]) as qemu:
        os.close(descriptor)
        yield qemu, lock


@needs_qemu
def test_holder_of_a_lock_is_found_and_the_lock_ends_with_it(
    locked_qemu: tuple[subprocess.Popen[bytes], Path], tmp_path: Path
) -> None:
    qemu, lock = locked_qemu
    (tmp_path / "link").symlink_to(tmp_path)
    assert process.find_holder(lock) == qemu.pid
    assert process.find_holder(tmp_path / "link" / "run.lock") == qemu.pid
    assert process.find_holder(tmp_path / "other.lock") is None
    assert locks.is_held(lock)
    process.kill(qemu.pid, functools.partial(process.holds, lock=lock))
    assert not locks.is_held(lock)
    assert process.find_holder(lock) is None


def test_only_a_qemu_counts_as_holder(tmp_path: Path) -> None:
    with locks.hold(tmp_path / "run.lock", "start"):
        assert not process.holds(os.getpid(), tmp_path / "run.lock")


@needs_qemu
def test_qemu_outlives_who_started_it(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from appcat.qemu import process\n"
        "print(process.spawn(sys.argv[2:], pathlib.Path(sys.argv[1]), []).pid)"
    )
    starter = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path / "log"), *idle_argv(UUID)]
    pid = int(subprocess.run(starter, capture_output=True, text=True, check=True).stdout)
    assert process.runs_vm(pid, UUID)
    process.kill(pid, functools.partial(process.runs_vm, uuid=UUID))
    eventually(lambda: not process.runs_vm(pid, UUID))
