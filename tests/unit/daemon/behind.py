"""An application behind a gate, without sockets: what httpx sends comes in as through a door."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, cast

import httpx
from fastapi import FastAPI
from starlette.types import Message, Receive, Scope, Send

from appcat.daemon.audit import Audit
from appcat.daemon.door import LOCAL_NAMES, UNIX_NAMES, Door, Kind, Peer
from appcat.daemon.gate import Gate
from appcat.daemon.guard import Guard
from appcat.services.context import Context


def door(kind: Kind) -> Door:
    names = UNIX_NAMES if kind is Kind.UNIX else LOCAL_NAMES | {"myhost"}
    context = cast(Any, object()) if kind is Kind.TLS else None
    return Door(kind, cast(Any, None), f"{kind}://test", cast(Any, None), frozenset(names), context)


@dataclass
class Behind:
    """One gate, and a peer that has come to it."""

    ctx: Context
    app: FastAPI
    kind: Kind = Kind.UNIX
    aborted: list[bool] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.gate = Gate(self.app, Guard(self.ctx), Audit(self.ctx.layout.audit_log))
        self.peer = Peer(door(self.kind), "192.0.2.1:1234", local="192.0.2.9", abort=lambda: self.aborted.append(True))
        if self.kind is Kind.UNIX:
            self.peer.uid = 1000

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"] = {"peer": self.peer}
        await self.gate(scope, receive, send)

    def send(self, method: str, path: str, host: str = "localhost", **more: Any) -> httpx.Response:
        async def go() -> httpx.Response:
            transport = httpx.ASGITransport(self)
            async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
                return await client.request(method, path, **more)

        return asyncio.run(go())

    def refused(self, status: int, code: str, *args: Any, **more: Any) -> dict[str, Any]:
        """Send what must be refused so; returns the problem."""
        answer = self.send(*args, **more)
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
        assert set(answer.json()) == {"code", "message", "hint", "details", "exit_code"}
        assert answer.headers["content-type"] == "application/json"
        assert not any(name.startswith("access-control-") for name in answer.headers)
        return dict(answer.json())

    def audited(self) -> list[dict[str, Any]]:
        path = self.ctx.layout.audit_log
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def pieces(*messages: Message, then: Callable[[], Awaitable[Message]] | None = None) -> Receive:
    """A client that sends these, and then nothing more, or what ``then`` says."""
    waiting = list(messages)

    async def receive() -> Message:
        if waiting:
            return waiting.pop(0)
        if then is not None:
            return await then()
        await asyncio.Event().wait()
        raise AssertionError

    return receive


def piece(data: bytes, more: bool = True) -> Message:
    return {"type": "http.request", "body": data, "more_body": more}


def scope_of(method: str, path: str, headers: dict[str, str]) -> Scope:
    encoded = [(key.encode(), value.encode()) for key, value in {"host": "localhost", **headers}.items()]
    return {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": encoded, "http_version": "1.1", "scheme": "http", "server": ("localhost", 80),
        "client": ("192.0.2.1", 1), "root_path": "", "asgi": {"version": "3.0", "spec_version": "2.3"},
    }  # fmt: skip


async def exchange(behind: Behind, scope: Scope, receive: Receive) -> list[Message]:
    """What comes out for what is received."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await behind(scope, receive, send)
    return sent
