"""What being on a private network costs a vm's start, and how long twenty vms take until each has reached each."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from appcat.guest.remote import Streams
from appcat.model.network import Joining
from appcat.services.clone import CloneRequest, clone
from appcat.services.create import CreateRequest, create
from appcat.services.execute import execute
from appcat.services.networks import NetworkRequest, create_network
from appcat.services.run import run
from appcat.services.start import start
from appcat.services.stop import kill
from scripts.benchmarks import raw
from scripts.benchmarks.bench import Bench
from scripts.benchmarks.report import Result, figure, paired

BAR = 1.05
NETWORK = "bench"
MEMBERS = 20
PATIENCE = 300.0
Measure = Callable[[Bench, str], float]


def measure(bench: Bench) -> list[Result]:
    """Starts on a network against starts on none, cold and from memory; then twenty on one."""
    create_network(bench.context, NetworkRequest(NETWORK))
    return [*_cold(bench), *_warm(bench), _twenty(bench)]


def _cold(bench: Bench) -> list[Result]:
    bench.say(f"starting {bench.count} pairs on a network and on none")
    create(bench.context, CreateRequest("on", networks=(Joining(NETWORK),)))
    create(bench.context, CreateRequest("off", networks=()))
    measured = _pairs(bench, _power_on)
    for name in ("on", "off"):
        bench.remove(name)
    return [paired("start on a network, to guest agent", measured, BAR)]


def _warm(bench: Bench) -> list[Result]:
    bench.say(f"starting {bench.count} pairs from memory on a network and on none")
    return [paired("instant vm on a network, to SSH banner", _pairs(bench, _from_memory), BAR)]


def _pairs(bench: Bench, seconds: Measure) -> list[tuple[float, float]]:
    """Alternately; the first pair warms what there is to warm."""
    measured = []
    for number in range(bench.count + 1):
        order = ("on", "off") if number % 2 else ("off", "on")
        took = {name: seconds(bench, name) for name in order}
        measured.append((took["on"], took["off"]))
    return measured[1:]


def _power_on(bench: Bench, name: str) -> float:
    begun = time.monotonic()
    vm = start(bench.context, name, ready_within=None).vm
    try:
        raw.wait_for_agent(bench.context.layout.runtime(vm.uuid).agent, begun + PATIENCE)
        return time.monotonic() - begun
    finally:
        kill(bench.context, name)


def _from_memory(bench: Bench, name: str) -> float:
    networks = (Joining(NETWORK),) if name == "on" else ()
    begun = time.monotonic()
    vm = run(bench.context, CreateRequest(name, networks=networks), instant=True)
    try:
        raw.wait_for_banner((vm.ssh_forward.address, vm.ssh_port), begun + PATIENCE)
        return time.monotonic() - begun
    finally:
        bench.remove(name)


def _twenty(bench: Bench) -> Result:
    """From one vm on the network to the moment when each of twenty has had an answer from each, by name."""
    bench.say(f"{MEMBERS} vms on one network, each asking each")
    run(bench.context, CreateRequest("m", networks=(Joining(NETWORK),)), instant=True)
    names = ["m", *(f"m-{number}" for number in range(1, MEMBERS))]
    begun = time.monotonic()
    done = clone(bench.context, CloneRequest("m", tuple(names[1:])))
    failed = [outcome.name for outcome in done.outcomes if outcome.error]
    if failed:
        raise RuntimeError(f"not cloned: {failed}")
    with ThreadPoolExecutor(2) as pool:
        for name, missed in zip(names, pool.map(lambda name: _missed(bench, name, names), names), strict=True):
            if missed:
                raise RuntimeError(f"{name} does not reach {missed}")
    took = time.monotonic() - begun
    for name in names:
        bench.remove(name)
    return figure(f"{MEMBERS - 1} clones made, all {MEMBERS} have reached each other by name", took, "s")


def _missed(bench: Bench, name: str, others: list[str]) -> str:
    """Whom a guest has had no answer from."""
    script = f"for other in {' '.join(others)}; do ping -q -c 1 -W 20 $other >/dev/null 2>&1 || echo $other; done"
    answer = io.BytesIO()
    execute(bench.context, name, ["sh", "-c", script], Streams(None, answer, sys.stderr.buffer), timeout=PATIENCE)
    return answer.getvalue().decode()
