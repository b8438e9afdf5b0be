"""``stats``: what each vm takes of this host: processor time, memory, disk.

Memory is proportional (PSS): a page that several processes share counts in parts, so the sum over all vms is true.
Linux tells it (``/proc/PID/smaps_rollup``, proc(5)); elsewhere it is resident memory, which counts shared pages twice.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from appcat.model.size import KIB
from appcat.model.status import Observation, Status
from appcat.qemu import img, process
from appcat.services.context import Context
from appcat.services.disks import path_of
from appcat.services.observe import list_vms, show

SAMPLE = 0.5


@dataclass(frozen=True)
class Usage:
    """One vm at one moment. ``cpu`` in percent of one processor, sizes in bytes, ``uptime`` in seconds."""

    name: str
    status: str
    cpu: float = 0.0
    memory: int = 0
    memory_limit: int = 0
    disk: int = 0
    disk_limit: int = 0
    uptime: float = 0.0


def total(usages: list[Usage]) -> Usage:
    """The sum of all."""
    return Usage(
        name="total",
        status="",
        cpu=sum(usage.cpu for usage in usages),
        memory=sum(usage.memory for usage in usages),
        memory_limit=sum(usage.memory_limit for usage in usages if usage.memory),
        disk=sum(usage.disk for usage in usages),
        disk_limit=sum(usage.disk_limit for usage in usages),
    )


@dataclass
class Sampler:
    """Looks at vms again and again; processor use is that since the look before."""

    ctx: Context
    names: list[str] | None = None
    seconds: dict[int, float] = field(default_factory=dict)
    taken: float = 0.0

    def sample(self) -> list[Usage]:
        """Every vm, or those in ``names``; the first sample knows no processor use. Raises NotFound."""
        found = list_vms(self.ctx) if self.names is None else [show(self.ctx, name) for name in self.names]
        now, before = time.monotonic(), self.taken
        seconds: dict[int, float] = {}
        usages = [self._usage(seen, seconds, now - before) for seen in found]
        self.seconds, self.taken = seconds, now
        return usages

    def _usage(self, seen: Observation, seconds: dict[int, float], elapsed: float) -> Usage:
        disk, limit = self._disks(seen)
        pid = seen.run.pid if seen.run else None
        if pid is None or seen.vm is None or seen.status is Status.STOPPED or not process.runs_vm(pid, seen.vm.uuid):
            return Usage(seen.name, str(seen.status), disk=disk, disk_limit=limit)
        try:
            qemu = psutil.Process(pid)
            with qemu.oneshot():
                times, begun = qemu.cpu_times(), qemu.create_time()
        except psutil.Error:
            return Usage(seen.name, str(seen.status), disk=disk, disk_limit=limit)
        seconds[pid] = times.user + times.system
        used = seconds[pid] - self.seconds.get(pid, seconds[pid])
        return Usage(
            name=seen.name,
            status=str(seen.status),
            cpu=100 * used / elapsed if self.taken else 0.0,
            memory=proportional_memory(pid),
            memory_limit=seen.vm.memory,
            disk=disk,
            disk_limit=limit,
            uptime=max(time.time() - begun, 0.0),
        )

    def _disks(self, seen: Observation) -> tuple[int, int]:
        if seen.vm is None:
            return 0, 0
        used = sum(img.allocated(path_of(self.ctx, seen.name, disk)) for disk in seen.vm.disks)
        return used, sum(disk.size for disk in seen.vm.disks)


def stats(ctx: Context, names: list[str] | None = None, interval: float = SAMPLE) -> list[Usage]:
    """Usage of all vms, or of ``names``, measured over ``interval`` seconds; raises NotFound."""
    sampler = Sampler(ctx, names)
    sampler.sample()
    time.sleep(interval)
    return sampler.sample()


def proportional_memory(pid: int) -> int:
    """PSS of a process in bytes, its resident memory where that cannot be known, 0 when it is gone."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * KIB
    except (OSError, ValueError):
        pass
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0
