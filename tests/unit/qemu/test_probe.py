from __future__ import annotations

import contextlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from appcat.errors import InvalidInput, MissingTool, QemuError
from appcat.model.host import Accelerator, Verdict, host_arch, host_system
from appcat.model.vm import Arch
from appcat.qemu import probe
from tests.unit.support.qemu import needs_qemu

PATIENT = 30.0
SHORT = 1.5
KVM, HVF, TCG = Accelerator.KVM, Accelerator.HVF, Accelerator.TCG

needs_arm = pytest.mark.skipif(
    not shutil.which("qemu-system-aarch64"), reason="qemu-system-aarch64 is not installed (package qemu-system-arm)"
)
on_linux_x86 = pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="probes x86_64 on Linux"
)


def verdict(accelerator: Accelerator, seconds: float | None) -> Verdict:
    return Verdict(accelerator, seconds is not None, "for a reason", seconds)


@needs_qemu
def test_x86_payload_runs_to_its_end_under_translation() -> None:
    found = probe.probe(TCG, Arch.X86_64, "qemu-system-x86_64", PATIENT)
    assert (found.works, found.reason) == (True, "a tiny guest ran to its end")
    assert found.seconds is not None
    assert 0 < found.seconds < PATIENT


@needs_arm
def test_arm_payload_runs_to_its_end_under_translation() -> None:
    assert probe.probe(TCG, Arch.AARCH64, "qemu-system-aarch64", PATIENT).works


@needs_qemu
@on_linux_x86
def test_verdict_on_kvm_is_what_running_under_it_shows(tmp_path: Path) -> None:
    found = probe.probe(KVM, Arch.X86_64, "qemu-system-x86_64", SHORT)
    payload = tmp_path / "payload"
    payload.write_bytes(probe.x86_payload())
    argv = probe.probe_argv("qemu-system-x86_64", Arch.X86_64, KVM, payload)
    try:
        ended = subprocess.run(argv, capture_output=True, timeout=SHORT, check=False).returncode
    except subprocess.TimeoutExpired:
        ended = None
    assert found.works is (ended == probe.expected_exit(Arch.X86_64))
    assert found.reason


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exit 0", "QEMU ended with status 0"),
        ("echo warning >&2; echo no such device >&2; exit 1", "warning; no such device"),
        ("exec sleep 60", "a tiny guest did not finish within 0.2 s"),
    ],
)
def test_payload_that_does_not_come_to_its_end_counts_against_it(tmp_path: Path, script: str, reason: str) -> None:
    binary = executable(tmp_path / "qemu-system-x86_64", script)
    assert probe.probe(TCG, Arch.X86_64, str(binary), 0.2) == Verdict(TCG, False, reason)


def test_kvm_is_not_tried_without_its_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(probe, "KVM", tmp_path / "kvm")
    found = probe.probe(KVM, Arch.X86_64, "/no/such/qemu")
    assert found == Verdict(KVM, False, f"{tmp_path}/kvm does not exist")


@pytest.mark.parametrize(
    ("verdicts", "chosen"),
    [
        ((verdict(KVM, 0.1), verdict(TCG, 0.3)), KVM),
        ((verdict(KVM, 2.0), verdict(TCG, 0.3)), TCG),
        ((verdict(KVM, None), verdict(TCG, 0.3)), TCG),
        ((verdict(HVF, 0.0), verdict(TCG, 0.3)), HVF),
    ],
)
def test_fastest_that_works_is_chosen(verdicts: tuple[Verdict, ...], chosen: Accelerator) -> None:
    assert probe.choose(verdicts) is chosen


def test_without_any_that_works_the_reasons_are_told() -> None:
    with pytest.raises(QemuError, match="no accelerator") as caught:
        probe.choose((verdict(KVM, None), verdict(TCG, None)))
    assert caught.value.details == "kvm: for a reason; tcg: for a reason"


@pytest.mark.parametrize(
    ("output", "version"),
    [
        ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\nCopyright", "7.2.22"),
        ("QEMU emulator version 10.1.0\n", "10.1.0"),
        ("QEMU emulator version 8.2\n", "8.2"),
    ],
)
def test_version_is_read(output: str, version: str) -> None:
    assert probe.parse_version(output) == version


def test_what_tells_no_version_is_told() -> None:
    with pytest.raises(QemuError, match="cannot read QEMU's version"):
        probe.parse_version("I am not QEMU")


def executable(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(("version", "enough"), [("6.9.9", False), ("7.1.0", False), ("7.2.0", True), ("10.0.0", True)])
def test_qemu_must_be_new_enough(tmp_path: Path, version: str, enough: bool) -> None:
    binary = executable(tmp_path / "qemu-system-x86_64", f"echo QEMU emulator version {version}")
    if enough:
        assert probe.check_version(binary) == version
    else:
        with pytest.raises(MissingTool, match=f"qemu-system-x86_64 {version} is too old"):
            probe.check_version(binary)


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """QEMU behind a script that notes each call; no KVM and little work, which would only make the test slower.

    Returns the file of notes.
    """
    real = shutil.which("qemu-system-x86_64")
    notes = tmp_path / "calls"
    notes.touch()
    (tmp_path / "bin").mkdir()
    executable(tmp_path / "bin" / "qemu-system-x86_64", f'echo call >> "{notes}"\nexec {real} "$@"')
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setattr(probe, "KVM", tmp_path / "kvm")
    monkeypatch.setattr(probe, "_LOOPS", 1000)
    return notes


def calls(notes: Path) -> int:
    return len(notes.read_text().splitlines())


@needs_qemu
@on_linux_x86
def test_verdicts_are_found_once_and_kept(recorded: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache" / "probe.json"
    first = probe.host(cache)
    after_first = calls(recorded)
    assert after_first == 2  # its version, and the payload under translation
    assert probe.host(cache) == first
    assert calls(recorded) == after_first
    assert first.accelerator is TCG
    assert [verdict.works for verdict in first.verdicts] == [False, True]
    assert first.qemu.binary == str(tmp_path / "bin" / "qemu-system-x86_64")


def newer_qemu(tmp_path: Path, _patch: pytest.MonkeyPatch) -> None:
    os.utime(tmp_path / "bin" / "qemu-system-x86_64", (1, 1))


def another_boot(tmp_path: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(probe, "boot_id", lambda: "another boot")


def kvm_appears(tmp_path: Path, _patch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kvm").touch()


def damage(tmp_path: Path, _patch: pytest.MonkeyPatch) -> None:
    (tmp_path / "probe.json").write_bytes(b"\xff{")


@needs_qemu
@on_linux_x86
@pytest.mark.parametrize("change", [newer_qemu, another_boot, kvm_appears, damage])
def test_verdicts_are_found_anew_when_something_changes(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: object
) -> None:
    cache = tmp_path / "probe.json"
    monkeypatch.setattr(probe, "CANDIDATES", {host_system(sys.platform): (TCG,)})
    probe.host(cache)
    before = calls(recorded)
    change(tmp_path, monkeypatch)  # type: ignore[operator]
    probe.host(cache)
    after = calls(recorded)
    probe.host(cache)
    assert (before, after, calls(recorded)) == (2, 4, 4)


@needs_qemu
@on_linux_x86
def test_a_bad_moment_is_not_remembered_until_the_next_boot(recorded: Path, tmp_path: Path) -> None:
    binary, bad_moment = tmp_path / "bin" / "qemu-system-x86_64", tmp_path / "bad-moment"
    script = binary.read_text().replace("exec", f'[ -e "{bad_moment}" ] && [ "$1" != --version ] && exit 1\nexec', 1)
    binary.write_text(script)
    bad_moment.touch()
    with contextlib.suppress(QemuError):
        probe.host(tmp_path / "probe.json")
    bad_moment.unlink()
    assert probe.host(tmp_path / "probe.json").accelerator is TCG


@needs_qemu
@on_linux_x86
def test_override_beats_the_verdicts(recorded: Path, tmp_path: Path) -> None:
    assert probe.host(tmp_path / "probe.json", "kvm").accelerator is KVM


@needs_qemu
@on_linux_x86
def test_override_must_be_an_accelerator_of_this_system(recorded: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="'hvf' is not an accelerator") as caught:
        probe.host(tmp_path / "probe.json", "hvf")
    assert "kvm, tcg" in caught.value.hint


def test_missing_qemu_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingTool, match=f"qemu-system-{probe.architecture()} is not installed"):
        probe.host(tmp_path / "probe.json")


@pytest.mark.parametrize(
    ("machine", "arch"), [("x86_64", Arch.X86_64), ("arm64", Arch.AARCH64), ("aarch64", Arch.AARCH64)]
)
def test_host_architectures(machine: str, arch: Arch) -> None:
    assert host_arch(machine) is arch


def test_unknown_architecture_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(QemuError, match="no templates for riscv64"):
        probe.architecture()
