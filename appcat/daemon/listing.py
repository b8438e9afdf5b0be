"""``GET /v1/vms``: as many answers from one look as there are requests that have waited for it."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from appcat.model.status import Observation
from appcat.services.context import Context
from appcat.services.describe import describe
from appcat.services.filters import Filter, matches
from appcat.services.glance import Glances

TAG_DIGITS = 32


@dataclass(frozen=True)
class Shown:
    """A vm and the JSON that tells it, made once."""

    seen: Observation
    text: bytes


@dataclass(frozen=True)
class Listed:
    """An answer and its entity tag."""

    body: bytes
    tag: str

    @classmethod
    def of(cls, shown: Sequence[Shown]) -> Listed:
        """The answer that lists these."""
        body = b'{"vms":[' + b",".join(one.text for one in shown) + b"]}"
        return cls(body, hashlib.sha256(body).hexdigest()[:TAG_DIGITS])


class Listing:
    """Looks at all vms: at once where nothing has changed, else one look at a time in a thread of its own.

    Who comes while one goes on gets the next: it begins after he asked.
    """

    def __init__(self, ctx: Context) -> None:
        self._glances = Glances(ctx, _show)
        self._thread = ThreadPoolExecutor(1, "appcat listing")
        self._next: asyncio.Task[list[Shown]] | None = None
        self._present: asyncio.Task[list[Shown]] | None = None
        self._last: tuple[list[Shown], Listed] = ([], Listed.of([]))

    async def look(self) -> list[Shown]:
        """All vms as of a moment after the call."""
        if (known := self._glances.known()) is not None:
            return known
        if self._next is None:
            self._next = asyncio.create_task(self._after(self._present))
        return await asyncio.shield(self._next)

    async def listed(self, filters: list[Filter]) -> Listed:
        """The answer for those that ``filters`` leave."""
        shown = await self.look()
        if filters:
            return Listed.of([one for one in shown if matches(one.seen, filters)])
        before, answer = self._last
        if len(before) != len(shown) or any(one is not other for one, other in zip(shown, before, strict=True)):
            answer = Listed.of(shown)
            self._last = (shown, answer)
        return answer

    def close(self) -> None:
        """Look no more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _after(self, present: asyncio.Task[list[Shown]] | None) -> list[Shown]:
        if present is not None:
            await asyncio.wait([present])
        self._present, self._next = self._next, None
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._glances.look)


def _show(seen: Observation) -> Shown:
    return Shown(seen, json.dumps(describe(seen), ensure_ascii=False, separators=(",", ":")).encode())
