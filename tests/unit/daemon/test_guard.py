from __future__ import annotations

import asyncio

import pytest
from starlette.datastructures import Headers

from appcat.daemon import guard as guards
from appcat.daemon.door import Kind, Peer
from appcat.daemon.guard import Guard, delay
from appcat.errors import AppcatError
from appcat.services import tokens
from appcat.services.context import Context
from tests.unit.daemon.behind import door


def test_patience_grows_thin_and_stays_bounded() -> None:
    assert [delay(count) for count in range(1, 6)] == [0.0] * 5
    assert [delay(count) for count in (6, 7, 8, 20, 10**6)] == [0.2, 0.4, 0.8, 3.0, 3.0]


def visit(guard: Guard, secret: str, address: str = "192.0.2.1:1") -> Peer:
    peer = Peer(door(Kind.TCP), address)
    asyncio.run(guard.check(peer, Headers({"authorization": f"Bearer {secret}"})))
    return peer


def test_wrong_tokens_are_slowed_down_and_right_ones_never(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(guards.asyncio, "sleep", sleep)
    guard, secret = Guard(ctx), tokens.add(ctx, "me")
    for port in range(8):
        with pytest.raises(AppcatError):
            visit(guard, "wrong", f"192.0.2.1:{port}")
    assert slept == [0.2, 0.4, 0.8]
    assert visit(guard, secret).token == "me"
    with pytest.raises(AppcatError):
        visit(guard, "wrong", "192.0.2.2:1")
    assert len(slept) == 3


def test_too_many_who_wait_are_sent_away(ctx: Context) -> None:
    guard = Guard(ctx, _waiting=guards.MOST_WAITING)
    codes = []
    for _ in range(guards.FREE_ATTEMPTS + 1):
        with pytest.raises(AppcatError) as caught:
            visit(guard, "wrong")
        codes.append(caught.value.code)
    assert codes == ["unauthorized"] * guards.FREE_ATTEMPTS + ["too-many-attempts"]


def test_two_credentials_are_none(ctx: Context) -> None:
    secret = tokens.add(ctx, "me")
    headers = Headers(raw=[(b"authorization", f"Bearer {text}".encode()) for text in (secret, "other")])
    with pytest.raises(AppcatError):
        asyncio.run(Guard(ctx).check(Peer(door(Kind.TCP), "x:1"), headers))
