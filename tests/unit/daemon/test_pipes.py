from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from appcat.daemon.bridge import MOST_HELD, ClientGone, Feeder
from appcat.daemon.pipes import Inlet, Outlet
from appcat.daemon.workers import Interrupted, TooMany, Workers
from appcat.guest.patience import check_interrupted, interruptible


def run(scenario: Any) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_outlet_gives_what_a_thread_writes() -> None:
    data = bytes(range(256)) * 4096

    async def scenario() -> None:
        outlet = Outlet()

        def write() -> None:
            with outlet.file as file:
                left = memoryview(data)
                while left:
                    left = left[file.write(left) :]

        threading.Thread(target=write).start()
        assert b"".join([piece async for piece in outlet.pieces()]) == data
        outlet.abandon()

    run(scenario)


def test_abandoned_outlet_stops_its_writer() -> None:
    async def scenario() -> None:
        outlet = Outlet()
        outlet.abandon()
        with pytest.raises(BrokenPipeError), outlet.file as file:
            file.write(b"x")

    run(scenario)


def test_inlet_gives_a_thread_what_is_written() -> None:
    data = bytes(range(256)) * 4096

    async def scenario() -> None:
        inlet, workers = Inlet(), Workers(1, "x")

        def read() -> bytes:
            with inlet.file as file:
                return file.read()

        reading = workers.start(read)
        assert await inlet.write(data)
        inlet.close()
        assert await reading == data

    run(scenario)


def test_inlet_that_nobody_reads_says_so() -> None:
    async def scenario() -> None:
        inlet = Inlet()
        inlet.file.close()
        assert not await inlet.write(b"x")
        inlet.close()
        assert not await inlet.write(b"x")

    run(scenario)


class Stuck:
    """Takes nothing."""

    async def write(self, _data: bytes) -> bool:
        await asyncio.Event().wait()
        return True

    def close(self) -> None:
        pass


def test_feeder_holds_so_much_and_notices_who_is_gone() -> None:
    async def scenario() -> None:
        gone = False
        feeder = Feeder(Stuck(), lambda: gone)
        await feeder.put(bytes(MOST_HELD))
        waiting = asyncio.create_task(feeder.put(b"more"))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        gone = True
        with pytest.raises(ClientGone):
            await waiting
        await feeder.close()

    run(scenario)


def test_feeder_passes_on_the_end() -> None:
    async def scenario() -> None:
        inlet, workers = Inlet(), Workers(1, "x")

        def read() -> bytes:
            with inlet.file as file:
                return file.read()

        reading = workers.start(read)
        feeder = Feeder(inlet, lambda: False)
        for data in (b"a", b"b", b"", b"too late"):
            await feeder.put(data)
        assert await reading == b"ab"
        await feeder.close()

    run(scenario)


def test_no_more_workers_than_allowed() -> None:
    async def scenario() -> None:
        workers, go = Workers(2, "streams"), threading.Event()
        first = workers.start(go.wait)
        with workers.place(), pytest.raises(TooMany, match="2 streams"):
            workers.start(go.wait)
        go.set()
        assert await first
        while workers.count:
            await asyncio.sleep(0.01)
        await workers.start(lambda: None)

    run(scenario)


def test_interrupt_of_a_worker_does_not_reach_the_loop() -> None:
    async def scenario() -> None:
        interrupt = threading.Event()

        def work() -> None:
            with interruptible(interrupt):
                while True:
                    check_interrupted()

        working = Workers(1, "x").start(work)
        interrupt.set()
        with pytest.raises(Interrupted):
            await working
        assert not interrupt.is_set()

    run(scenario)


def test_error_of_a_worker_is_raised() -> None:
    async def scenario() -> None:
        with pytest.raises(ZeroDivisionError):
            await Workers(1, "x").start(lambda: 1 / 0)

    run(scenario)
