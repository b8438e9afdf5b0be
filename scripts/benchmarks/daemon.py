"""The daemon: the rate of its list, what a request adds to a verb, how soon an event is heard, what it takes idle."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from appcat.client import Client
from appcat.services.clone import CloneRequest, clone
from appcat.services.create import CreateRequest, create, make, with_defaults
from appcat.services.edit import label
from appcat.services.run import run
from appcat.services.start import start
from appcat.services.stop import kill
from scripts.benchmarks.bench import Bench
from scripts.benchmarks.report import Result, figure, paired, pairs

MACHINES = 100
REQUESTS = 200
EVENTS = 50
# At least 0.2 times the rate of the bare route: at most five times its seconds.
LIST_BAR, VERB_BAR = 5.0, 1.1
IDLE_MACHINES, RUNNING = 50, 5
SETTLE, WATCH = 10.0, 20.0
MIB = 1 << 20
PATIENCE = 30.0

# What the list is compared with: the same bytes, encoded once, from a route that does nothing else.
BARE_FASTAPI = """
import sys, uvicorn
from fastapi import FastAPI, Response
body = open(sys.argv[2], "rb").read()
app = FastAPI()

@app.get("/v1/vms")
async def vms() -> Response:
    return Response(body, media_type="application/json")

uvicorn.run(app, uds=sys.argv[1], log_level="critical")
"""


def measure(bench: Bench) -> list[Result]:
    """Everything about the daemon of this home, which is started and stopped here."""
    bench.context  # noqa: B018  sets the environment of this home
    with _daemon(bench) as (door, pid):
        client = Client(f"unix://{door}")
        return [
            *_verbs(bench, client, door),
            *_events(bench, door),
            *_list(bench, door),
            *_idle(bench, pid),
        ]


@contextlib.contextmanager
def _daemon(bench: Bench) -> Iterator[tuple[Path, int]]:
    """The socket and the process id of a daemon that runs."""
    program = [sys.executable, "-m", "appcat", "daemon"]
    subprocess.run([*program, "start"], env=bench.env, check=True, stdout=subprocess.DEVNULL)
    try:
        text = subprocess.run([*program, "status", "--json"], env=bench.env, check=True, capture_output=True).stdout
        status = json.loads(text)
        yield bench.context.layout.daemon_socket, int(status["pid"])
    finally:
        subprocess.run([*program, "stop"], env=bench.env, check=True, stdout=subprocess.DEVNULL)


class _Connection(http.client.HTTPConnection):
    """One keep-alive connection to a unix socket."""

    def __init__(self, door: Path) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self._door = door

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(str(self._door))

    def get(self, path: str) -> bytes:
        """The body of a good answer."""
        self.request("GET", path)
        answer = self.getresponse()
        body = answer.read()
        if answer.status != http.client.OK:
            raise RuntimeError(f"{path}: {answer.status} {body[:200]!r}")
        return body


def _list(bench: Bench, door: Path) -> list[Result]:
    bench.say(f"GET /v1/vms with {MACHINES} vms, of which {RUNNING} run, against a bare FastAPI route")
    _make_machines(bench, MACHINES)
    ours = _Connection(door)
    body = Path(bench.home, "body.json")
    body.write_bytes(ours.get("/v1/vms"))
    with _bare(bench, body) as bare_door:
        bare = _Connection(bare_door)
        return [
            pairs(
                f"GET /v1/vms, {MACHINES} vms, {RUNNING} running",
                lambda: _seconds_each(ours),
                lambda: _seconds_each(bare),
                bench.count,
                LIST_BAR,
            )
        ]


@contextlib.contextmanager
def _bare(bench: Bench, body: Path) -> Iterator[Path]:
    door = Path(bench.context.layout.daemon_socket).with_name("bare.sock")
    child = subprocess.Popen([sys.executable, "-c", BARE_FASTAPI, str(door), str(body)])
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                _Connection(door).get("/v1/vms")
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        yield door
    finally:
        child.terminate()
        child.wait(PATIENCE)
        door.unlink(missing_ok=True)


def _seconds_each(connection: _Connection) -> float:
    begun = time.monotonic()
    for _ in range(REQUESTS):
        connection.get("/v1/vms")
    return (time.monotonic() - begun) / REQUESTS


def _make_machines(bench: Bench, count: int) -> None:
    """So many vms, the first few of them running."""
    for number in range(count):
        if f"n{number:03}" not in bench.context.store.names():
            make(bench.context, with_defaults(bench.context, CreateRequest(f"n{number:03}")), durable=False)
    for number in range(RUNNING):
        start(bench.context, f"n{number:03}")


def _verbs(bench: Bench, client: Client, door: Path) -> list[Result]:
    """A start and an instant clone by a request, against the same in this process and one request more."""
    connection = _Connection(door)
    connection.get("/v1/version")
    request = statistics.median(_timed(lambda: connection.get("/v1/version")) for _ in range(50))
    bench.say(f"one request takes {request * 1000:.1f} ms; starts by request and in this process")
    create(bench.context, CreateRequest("cold"))
    starts, clones = [], []
    for number in range(bench.count):
        steps = [lambda: client.start("cold"), lambda: start(bench.context, "cold")]
        seconds = _alternately(steps, number, lambda: kill(bench.context, "cold"))
        starts.append((seconds[0], seconds[1] + request / VERB_BAR))
    bench.say("instant clones by request and in this process")
    run(bench.context, CreateRequest("source"), instant=True)
    ask = CloneRequest("source", ("copy",))
    for number in range(bench.count + 1):
        steps = [lambda: client.clone(ask), lambda: clone(bench.context, ask)]
        seconds = _alternately(steps, number, lambda: bench.remove("copy"))
        clones.append((seconds[0], seconds[1] + request / VERB_BAR))
    for name in ("cold", "source"):
        bench.remove(name)
    return [
        figure("one request (GET /v1/version)", request * 1000, "ms"),
        paired("start through REST, to guest agent", starts, VERB_BAR),
        paired("instant clone through REST", clones[1:], VERB_BAR),
    ]


def _alternately(steps: list[Callable[[], object]], number: int, undo: Callable[[], object]) -> list[float]:
    """Seconds of each step, done in one order or the other."""
    seconds = [0.0] * len(steps)
    for index in range(len(steps)) if number % 2 else reversed(range(len(steps))):
        seconds[index] = _timed(steps[index])
        undo()
    return seconds


def _timed(work: Callable[[], object]) -> float:
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


def _events(bench: Bench, door: Path) -> list[Result]:
    """From the moment before a verb is called in this process to a stream's client having read of it."""
    bench.say(f"{EVENTS} events, from cause to client")
    create(bench.context, CreateRequest("talker"))
    heard = _Listener(door)
    delays = []
    for number in range(EVENTS):
        begun = time.monotonic()
        label(bench.context, "talker", {"number": str(number)})
        delays.append(heard.next_labelled() - begun)
        time.sleep(0.02)
    heard.close()
    verb = statistics.median(_timed(lambda: label(bench.context, "talker", {"n": "0"})) for _ in range(20))
    bench.remove("talker")
    return [
        figure("event, cause to client: median", statistics.median(delays) * 1000, "ms"),
        figure("event, cause to client: slowest of 50", max(delays) * 1000, "ms"),
        figure("of which the verb itself (label)", verb * 1000, "ms"),
    ]


class _Listener:
    """An event stream, read by a thread; ``next_labelled`` gives the moment at which the next one was read."""

    def __init__(self, door: Path) -> None:
        self._connection = _Connection(door)
        self._connection.request("GET", "/v1/events", headers={"Accept": "text/event-stream"})
        self._answer = self._connection.getresponse()
        self._times: list[float] = []
        self._came = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()
        time.sleep(0.5)

    def next_labelled(self) -> float:
        with self._came:
            if not self._came.wait_for(lambda: self._times, PATIENCE):
                raise RuntimeError("an event did not come")
            return self._times.pop(0)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._connection.sock.shutdown(socket.SHUT_RDWR)

    def _read(self) -> None:
        with contextlib.suppress(OSError, ValueError, http.client.HTTPException, AttributeError):
            while line := self._answer.readline():
                if line.startswith(b"event: vm.labelled"):
                    with self._came:
                        self._times.append(time.monotonic())
                        self._came.notify()


def _idle(bench: Bench, pid: int) -> list[Result]:
    bench.say(f"watching the daemon with {IDLE_MACHINES} vms, of which {RUNNING} run")
    for number in range(IDLE_MACHINES, MACHINES):
        bench.remove(f"n{number:03}")
    daemon = psutil.Process(pid)
    time.sleep(SETTLE)
    before = daemon.cpu_times()
    time.sleep(WATCH)
    after = daemon.cpu_times()
    used = after.user + after.system - before.user - before.system
    return [
        figure(f"daemon, {IDLE_MACHINES} vms: proportional memory", daemon.memory_full_info().pss / MIB, "MiB"),
        figure(f"daemon, {IDLE_MACHINES} vms: CPU", 100 * used / WATCH, "% of a core"),
    ]
