from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from appcat.daemon import streams
from appcat.daemon.streams import COMMENT, LOST, Event, Feed, encoded, follow


def test_event_is_one_event_whatever_is_in_it() -> None:
    event = Event("vm.started\nid: 7", {"name": "a\n\ndata: b"}, "1\r\nretry: 0")
    assert event.encode() == b'id: 1 retry: 0\nevent: vm.started id: 7\ndata: {"name": "a\\n\\ndata: b"}\n\n'
    assert Event("x", None).encode() == b"event: x\ndata: null\n\n"


def test_all_subscribers_get_what_any_thread_publishes() -> None:
    feed = Feed()

    async def read() -> list[Event]:
        return [event async for event in follow(feed)]

    async def go() -> list[list[Event]]:
        readers = [asyncio.create_task(read()) for _ in range(3)]
        while feed.readers < 3:
            await asyncio.sleep(0)

        def tell() -> None:
            for number in range(5):
                feed.publish(Event("n", number))
            feed.close()

        threading.Thread(target=tell).start()
        return await asyncio.gather(*readers)

    expected = [Event("n", number) for number in range(5)]
    assert asyncio.run(go()) == [expected] * 3
    assert feed.readers == 0


def test_slow_reader_is_cut_off_and_told() -> None:
    feed = Feed(size=3)

    async def go() -> list[Event]:
        with feed.subscribe() as slow:
            for number in range(10):
                feed.publish(Event("n", number))
            await asyncio.sleep(0)
            return [event async for event in slow]

    assert asyncio.run(go()) == [LOST]


def test_closed_feed_ends_those_who_come_later() -> None:
    feed = Feed()
    feed.close()

    async def go() -> list[Event]:
        return [event async for event in follow(feed)]

    assert asyncio.run(go()) == []


def test_feed_may_be_told_when_nobody_listens_or_the_loop_is_gone() -> None:
    feed = Feed()

    async def leave() -> None:
        feed.subscribe().__enter__()

    asyncio.run(leave())
    feed.publish(Event("n", 1))
    feed.close()


@pytest.mark.parametrize("beats", [0, 3])
def test_silence_is_filled_with_comments(beats: int) -> None:
    async def quiet() -> AsyncIterator[Event]:
        yield Event("n", 1)
        await asyncio.Event().wait()

    async def go() -> list[bytes]:
        stream = encoded(quiet(), heartbeat=0.01)
        pieces = [await anext(stream) for _ in range(2 + beats)]
        await stream.aclose()  # type: ignore[attr-defined]
        return pieces

    assert asyncio.run(go()) == [COMMENT, Event("n", 1).encode(), *[COMMENT] * beats]


def test_reader_that_goes_is_forgotten() -> None:
    feed = Feed()

    async def go() -> None:
        stream = encoded(follow(feed), heartbeat=0.01)
        for _ in range(3):
            await anext(stream)
        assert feed.readers == 1
        await stream.aclose()  # type: ignore[attr-defined]

    asyncio.run(go())
    assert feed.readers == 0


def test_answer_is_an_event_stream_that_nobody_keeps() -> None:
    answer = streams.respond(follow(Feed()))
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
