"""What may happen to a command in a guest and to who waits for it."""

from __future__ import annotations

import secrets
import signal
import subprocess

import pytest

from tests.cat import Cat, wait_until

pytestmark = pytest.mark.vm


def processes(cat: Cat) -> str:
    return cat("vm", "exec", "web", "--", "ps")


def test_status_of_a_command_ended_by_a_signal(shared: Cat) -> None:
    assert shared.try_("vm", "exec", "web", "--", "sh", "-c", "kill -9 $$").returncode == 128 + 9


def test_missing_command(shared: Cat) -> None:
    done = shared.try_("vm", "exec", "web", "--", "no-such-program")
    assert done.returncode == 127
    assert "not found" in done.stderr


def test_nobody_reads_the_output(shared: Cat) -> None:
    process = shared.popen("vm", "exec", "web", "--", "yes")
    assert process.stdout
    assert process.stdout.readline() == "y\n"
    process.stdout.close()
    assert process.wait(60) == 141
    wait_until(lambda: " yes" not in processes(shared), what="the command's end in the guest")


def test_output_that_cannot_be_written(shared: Cat) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123
        process = shared.popen("vm", "exec", "web", "--", "echo", "lost", stdout=full)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 6
    assert "no space left" in errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_ends_the_command_with_its_children(shared: Cat, number: signal.Signals) -> None:
    seconds = f"{secrets.randbelow(1 << 20) + 5000}"
    process = shared.popen("vm", "exec", "web", "--", "sh", "-c", f"echo started; sleep {seconds}; true")
    assert process.stdout
    assert process.stdout.readline() == "started\n"
    process.send_signal(number)
    assert process.wait(60) == 130
    wait_until(lambda: seconds not in processes(shared), what="the end of the children")


def test_timeout_ends_the_children_too(shared: Cat) -> None:
    seconds = f"{secrets.randbelow(1 << 20) + 5000}"
    done = shared.try_("vm", "exec", "web", "--timeout", "2", "--", "sh", "-c", f"sleep {seconds}; true")
    assert done.returncode == 124
    wait_until(lambda: seconds not in processes(shared), what="the end of the children")


def test_daemon_does_not_hold_the_caller(shared: Cat) -> None:
    shared("vm", "exec", "web", "--", "sh", "-c", "sleep 3000 >/dev/null 2>&1 </dev/null &", timeout=120)
    shared("vm", "exec", "web", "--", "killall", "sleep")


def test_mistyped_option_is_not_a_command(shared: Cat) -> None:
    done = shared.try_("vm", "exec", "web", "--tiemout", "5", "--", "true")
    assert done.returncode == 2
    assert "No such option" in done.stderr


def test_binary_both_ways(shared: Cat) -> None:
    data = bytes(range(256)) * 4096
    process = subprocess.run(
        shared.argv("vm", "exec", "web", "--", "cat"),
        env=shared.env,
        input=data,
        capture_output=True,
        timeout=120,
        check=True,
    )
    assert process.stdout == data
