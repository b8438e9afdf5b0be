"""The builder machine: its command line, and what it says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from appcat.build import machine
from appcat.build.machine import Console, Work
from appcat.checks import unchecked
from appcat.errors import BuildError, MissingTool
from appcat.model.host import Accelerator, Host, Qemu, System
from appcat.model.vm import Arch
from tests.golden.golden import check_argv

WORK = Work(Path("/s/vmlinux"), Path("/s/builder"), Path("/s/disk.qcow2"), Path("/s/a,b/parcel"), "quiet console=ttyS0")


@pytest.mark.parametrize(
    ("system", "arch", "accelerator"),
    [
        (System.LINUX, Arch.X86_64, Accelerator.TCG),
        (System.LINUX, Arch.X86_64, Accelerator.KVM),
        (System.MACOS, Arch.AARCH64, Accelerator.HVF),
    ],
)
def test_its_command_line(system: System, arch: Arch, accelerator: Accelerator) -> None:
    host = Host(system, arch, Qemu(f"/usr/bin/qemu-system-{arch}", "7.2.0"), accelerator)
    check_argv(f"builder-{system}-{arch}-{accelerator}.txt", machine.argv(WORK, host))


def test_steps_are_told_and_the_end_ends() -> None:
    console, told = Console(), []
    assert not console.take(b"noise\r\nappcat-build: step 3 7 installing pack", lambda *step: told.append(step))
    assert told == []
    assert not console.take(b"ages\r\n", lambda *step: told.append(step))
    assert told == [("installing packages", 3, 7)]
    assert console.take(b"[ 1.0] appcat-build: done\r\n", lambda *step: told.append(step))


def test_a_failure_comes_with_what_was_said_last() -> None:
    console = Console()
    console.take("".join(f"line {number}\n" for number in range(50)).encode(), lambda *_: None)
    with pytest.raises(BuildError, match="command 1 of the template failed") as caught:
        console.take(b"appcat-build: failed command 1 of the template failed\n", lambda *_: None)
    assert caught.value.details.splitlines()[-1] == "line 49"
    assert len(caught.value.details.splitlines()) == machine.TAIL


def fake(tmp_path: Path, script: str) -> Host:
    program = tmp_path / "qemu"
    program.write_text(f"#!{sys.executable}\nimport time\n{script}\n")
    program.chmod(0o755)
    return Host(System.LINUX, Arch.X86_64, Qemu(str(program), "7.2.0"), Accelerator.TCG)


def test_a_machine_that_ends_too_early(tmp_path: Path) -> None:
    host = fake(tmp_path, "print('Kernel panic')")
    with pytest.raises(BuildError, match="ended before its work was done") as caught:
        machine.run(WORK, host, lambda *_: None, unchecked)
    assert "Kernel panic" in caught.value.details


def test_the_disk_is_not_used_before_the_machine_has_ended(tmp_path: Path) -> None:
    """QEMU writes the last of it when it closes the file."""
    script = f"print('appcat-build: done', flush=True); time.sleep(0.5); open('{tmp_path}/closed', 'w')"
    machine.run(WORK, fake(tmp_path, script), lambda *_: None, unchecked)
    assert (tmp_path / "closed").exists()


def test_a_machine_that_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "CLOSING", 0.2)
    with pytest.raises(BuildError, match="does not end"):
        machine.run(
            WORK, fake(tmp_path, "print('appcat-build: done', flush=True); time.sleep(60)"), lambda *_: None, unchecked
        )


def test_a_machine_that_is_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "SILENCE", 0.1)
    with pytest.raises(BuildError, match="has said nothing"):
        machine.run(WORK, fake(tmp_path, "time.sleep(60)"), lambda *_: None, unchecked)


def test_a_machine_is_called_off(tmp_path: Path) -> None:
    def check() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        machine.run(WORK, fake(tmp_path, "time.sleep(60)"), lambda *_: None, check)


def test_no_qemu(tmp_path: Path) -> None:
    host = Host(System.LINUX, Arch.X86_64, Qemu(str(tmp_path / "none"), "7.2.0"), Accelerator.TCG)
    with pytest.raises(MissingTool, match="none is not installed"):
        machine.run(WORK, host, lambda *_: None, unchecked)
