from __future__ import annotations

import asyncio
from typing import Any

from appcat.daemon import hub as hubs
from appcat.daemon.hub import Hub, Subscription, every, replay
from appcat.daemon.pipes import ended
from appcat.model.event import Event, EventKind
from appcat.services.context import Context
from appcat.services.events import record
from appcat.store.events import Lost


def tell(ctx: Context, count: int = 1) -> None:
    for _ in range(count):
        record(ctx, EventKind.CONFIG_CHANGED)


def with_hub(ctx: Context, scenario: Any) -> None:
    async def run() -> None:
        hub = Hub(ctx)
        task = asyncio.create_task(hub.run())
        try:
            await asyncio.wait_for(hub.ready(), 10)
            await asyncio.wait_for(scenario(hub), 30)
        finally:
            await ended(task)

    asyncio.run(run())


async def take(ctx: Context, mine: Subscription, after: int | None, count: int) -> list[int]:
    found: list[int] = []
    async for event in replay(ctx, mine, after):
        found.append(-event.first if isinstance(event, Lost) else event.id)
        if len(found) == count:
            break
    return found


def test_who_listens_hears_what_is_written_from_then_on(ctx: Context) -> None:
    tell(ctx, 2)

    async def scenario(hub: Hub) -> None:
        with hub.subscribe() as mine, hub.subscribe() as other:
            await asyncio.to_thread(tell, ctx, 2)
            assert await take(ctx, mine, None, 2) == [3, 4]
            assert await take(ctx, other, None, 2) == [3, 4]
            assert hub.listeners == 2
        assert hub.listeners == 0

    with_hub(ctx, scenario)


def test_who_comes_again_misses_nothing_and_hears_nothing_twice(ctx: Context) -> None:
    tell(ctx, 3)

    async def scenario(hub: Hub) -> None:
        with hub.subscribe() as mine:
            await asyncio.to_thread(tell, ctx, 2)
            while hub.last < 5:
                await asyncio.sleep(0.01)
            assert await take(ctx, mine, 1, 4) == [2, 3, 4, 5]

    with_hub(ctx, scenario)


def test_all_that_are_kept(ctx: Context) -> None:
    tell(ctx, 3)

    async def scenario(hub: Hub) -> None:
        with hub.subscribe() as mine:
            assert await take(ctx, mine, 0, 3) == [1, 2, 3]

    with_hub(ctx, scenario)


def test_event_that_never_was_is_told_as_lost(ctx: Context) -> None:
    tell(ctx)

    async def scenario(hub: Hub) -> None:
        with hub.subscribe() as mine:
            await asyncio.to_thread(tell, ctx)
            assert await take(ctx, mine, 99, 2) == [-1, 2]

    with_hub(ctx, scenario)


def test_who_does_not_keep_up_is_cut_off(ctx: Context) -> None:
    mine = Subscription(every, 0)
    for number in range(hubs.MOST_KEPT + 1):
        mine.offer(Event(number + 1, "", "x"))
    assert mine.behind
    assert asyncio.run(mine.next(10)) is None


def test_end_is_told_to_all(ctx: Context) -> None:
    async def scenario(hub: Hub) -> None:
        with hub.subscribe() as mine:
            waiting = asyncio.create_task(take(ctx, mine, None, 1))
            await asyncio.sleep(0.05)
            hub.close()
            assert await waiting == []
        with hub.subscribe() as late:
            assert await take(ctx, late, None, 1) == []

    with_hub(ctx, scenario)
