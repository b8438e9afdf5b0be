"""What Prometheus is told of vms and operations: gauges looked up when it asks, histograms of what this daemon saw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime

from prometheus_client import Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from appcat.daemon.desk import Desk
from appcat.errors import AppcatError
from appcat.model.event import Event, EventKind
from appcat.model.operation import OperationState
from appcat.model.status import Observation, Status
from appcat.qemu import process
from appcat.services.observe import list_vms
from appcat.services.operations import list_operations, show_operation
from appcat.services.stats import proportional_memory

TIMED = {"start", "run", "clone", "clone_set"}
BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 30.0, 60.0, 120.0)


class Gauges(Collector):
    """One collector for all of it."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._seconds = Histogram(
            "appcat_operation_duration_seconds",
            "How long starts, runs and clones took that succeeded.",
            ["verb"],
            buckets=BUCKETS,
            registry=None,
        )
        for verb in sorted(TIMED):
            self._seconds.labels(verb)
        desk.hub.told.append(self._note)

    def collect(self) -> Iterable[Metric]:
        """Everything as of now; called in a handler's thread."""
        yield from self._vms()
        yield from self._operations()
        yield from self._seconds.collect()
        readers = GaugeMetricFamily("appcat_event_streams", "Readers of the event stream.")
        readers.add_metric([], self._desk.hub.listeners)
        yield readers
        at_work = GaugeMetricFamily("appcat_streams", "Commands, consoles, tunnels and transfers under way.")
        at_work.add_metric([], self._desk.streams.count)
        yield at_work

    def describe(self) -> Iterable[Metric]:
        """Nothing: so that registering looks at no file."""
        return ()

    def _vms(self) -> Iterable[Metric]:
        found = list_vms(self._desk.ctx)
        states = GaugeMetricFamily("appcat_vms", "Vms by status.", labels=["status"])
        counts = Counter(seen.status for seen in found)
        for status in Status:
            states.add_metric([str(status)], counts[status])
        memory = GaugeMetricFamily(
            "appcat_vms_memory_bytes", "Memory that all QEMUs take, what they share counted once (PSS)."
        )
        memory.add_metric([], sum(map(_memory, found)))
        return states, memory

    def _operations(self) -> Iterable[Metric]:
        states = GaugeMetricFamily("appcat_operations", "Operations that are kept, by state.", labels=["state"])
        counts = Counter(one.state for one in list_operations(self._desk.ctx))
        for state in OperationState:
            states.add_metric([str(state)], counts[state])
        return (states,)

    def _note(self, event: Event) -> None:
        """An operation that has succeeded, whoever did it: its record tells how long it took."""
        if event.kind != EventKind.OPERATION_ENDED or event.detail.get("state") != OperationState.SUCCEEDED:
            return
        if event.detail.get("verb") not in TIMED:
            return
        try:
            record = show_operation(self._desk.ctx, str(event.detail.get("id")))
            seconds = (_moment(record.ended) - _moment(record.created)).total_seconds()
        except (AppcatError, ValueError):
            return
        self._seconds.labels(record.verb).observe(max(seconds, 0.0))


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _memory(seen: Observation) -> int:
    pid = seen.run.pid if seen.run else None
    if pid is None or seen.vm is None or seen.status is Status.STOPPED or not process.runs_vm(pid, seen.vm.uuid):
        return 0
    return proportional_memory(pid)
