"""Vms on disk that seem to run: a held ``run.lock`` is all that being alive means."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from appcat.model.run import Run
from appcat.model.vm import Vm
from appcat.services.context import Context
from appcat.store import locks
from appcat.store.files import make_private_directory
from tests.unit.support.samples import sample_run, sample_vm


def add_vm(ctx: Context, vm: Vm | None = None, run: Run | None = None) -> Vm:
    """A stopped vm, with the record of a life if one is given."""
    vm = vm or sample_vm()
    ctx.store.add(vm, lambda _paths: None)
    if run:
        ctx.store.save_run(vm.name, run)
        make_private_directory(ctx.layout.runtime(vm.uuid).root)
    return vm


@contextlib.contextmanager
def lock_of_life(ctx: Context, name: str) -> Iterator[int]:
    """The held ``run.lock`` of a vm, as QEMU inherits it; let go at the end."""
    descriptor = locks.open_lock(ctx.layout.vm(name).run_lock)
    assert locks.try_lock(descriptor)
    try:
        yield descriptor
    finally:
        with contextlib.suppress(OSError):
            os.close(descriptor)


@contextlib.contextmanager
def alive(ctx: Context, vm: Vm | None = None) -> Iterator[Vm]:
    """A vm whose QEMU seems to live while the block runs."""
    vm = add_vm(ctx, vm, sample_run())
    with lock_of_life(ctx, vm.name):
        yield vm
