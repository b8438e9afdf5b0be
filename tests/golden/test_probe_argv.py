from __future__ import annotations

from pathlib import Path

import pytest

from appcat.model.host import Accelerator
from appcat.model.vm import Arch
from appcat.qemu.probe import probe_argv
from tests.golden.golden import check_argv


@pytest.mark.parametrize(
    ("arch", "accelerator"),
    [
        (Arch.X86_64, Accelerator.KVM),
        (Arch.X86_64, Accelerator.TCG),
        (Arch.AARCH64, Accelerator.HVF),
        (Arch.AARCH64, Accelerator.TCG),
    ],
)
def test_probing_machine_is_as_reviewed(arch: Arch, accelerator: Accelerator) -> None:
    argv = probe_argv(f"/usr/bin/qemu-system-{arch}", arch, accelerator, Path("/tmp/appcat-probe-1/payload"))
    check_argv(f"probe-{arch}-{accelerator}.txt", argv)
