"""The gate behind every door: what is not to come in goes back with the reason, before any handler sees it.

In this order: is it meant for us (``Host``), does a web page of somebody else send it (``Origin``), who is it (token),
is its body one that we take, of a size and a speed that we take. What passes is audited if it may change something.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from appcat.daemon import problems
from appcat.daemon.audit import Audit
from appcat.daemon.bodies import BODIES, Bodies, Body
from appcat.daemon.door import Kind, Peer
from appcat.daemon.guard import Guard
from appcat.errors import AppcatError, InvalidInput

HARMLESS = frozenset({"GET", "HEAD"})
# The same for everybody, and needed by those who have no token (yet): a browser cannot send one when it opens a page.
PUBLIC = frozenset({"/v1/health", "/docs", "/openapi.json"})
PUBLIC_BELOW = "/docs/"
LINGER = 2.0  # seconds in which a refused body may still come in, so that its sender reads why
GONE: Message = {"type": "http.disconnect"}


class ClientGone(Exception):
    """Nobody is there any more to be answered."""


@dataclass
class Gate:
    """ASGI around ASGI. ``guard`` knows the tokens, ``audit`` takes notes."""

    app: ASGIApp
    guard: Guard
    audit: Audit
    bodies: Bodies = field(default_factory=lambda: BODIES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or one WebSocket."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        visit = Visit(self, scope, receive, send)
        try:
            await visit.go()
        except ClientGone:
            pass
        finally:
            visit.take_note()


class Visit:
    """One request on its way through the gate."""

    def __init__(self, gate: Gate, scope: Scope, receive: Receive, send: Send) -> None:
        self.gate = gate
        self.scope = scope
        self.headers = Headers(scope=scope)
        self.peer: Peer = scope["state"]["peer"]
        self.is_socket = scope["type"] == "websocket"
        self.method: str = "WEBSOCKET" if self.is_socket else scope["method"]
        self.body: Body = gate.bodies.of(self.method, scope["path"])
        self.began = time.monotonic()
        self.status = 0
        self.operation = ""
        self.noted = False
        self.refusal: AppcatError | None = None
        self._receive = receive
        self._send = send
        self._unread = not self.is_socket and has_body(self.headers)
        self._size = 0

    async def go(self) -> None:
        """Through, or back."""
        try:
            await self.check()
            receive = await self.prepare_body()
        except AppcatError as error:
            await self.refuse(error)
            return
        try:
            await self.gate.app(self.scope, receive, self.send)
        except ClientGone:
            raise
        except Exception as error:
            await self._fail(error)
        else:
            if self.refusal is not None:
                await self.refuse(self.refusal)

    async def _fail(self, error: Exception) -> None:
        """The handler did not answer, or not to the end; FastAPI raises again what it has answered."""
        if self.refusal is not None:
            await self.refuse(self.refusal)
        elif self.status == 0:
            await self.refuse(problems.as_error(error))
        elif self.status < 500:
            problems.as_error(error)
            self.peer.abort()

    # --- what is checked

    async def check(self) -> None:
        """Raise what keeps this request out."""
        check_host(self.headers, self.peer)
        check_origin(self.headers, "http" if self.peer.door.ssl is None else "https")
        if self.peer.door.needs_token and not self.is_public:
            await self.gate.guard.check(self.peer, self.headers)
        if not self.is_socket:
            check_body(self.headers, self.body)

    @property
    def is_public(self) -> bool:
        """Whether it needs no token."""
        path: str = self.scope["path"]
        return self.method in HARMLESS and (path in PUBLIC or path.startswith(PUBLIC_BELOW))

    # --- its body

    async def prepare_body(self) -> Receive:
        """How the handler gets the body: whole already, or as a stream with an end to patience."""
        if self.is_socket:
            return self._receive
        if self.body.streamed:
            return self._receive_piece
        return replay(await self._read_all(), self._receive)

    async def _read_all(self) -> bytes:
        pieces = bytearray()
        deadline = time.monotonic() + (self.body.total or float("inf"))
        while self._unread:
            pieces += await self._next_piece(min(self.body.idle, deadline - time.monotonic()))
        return bytes(pieces)

    async def _next_piece(self, patience: float) -> bytes:
        """Some of the body; raises InvalidInput when there is too much of it, or it is too slow."""
        try:
            async with asyncio.timeout(max(patience, 0.0)):
                message = await self._receive()
        except TimeoutError:
            raise InvalidInput("the body is too slow", hint="send it without pauses", code="too-slow") from None
        if message["type"] == "http.disconnect":
            raise ClientGone
        piece: bytes = message.get("body", b"")
        self._unread = message.get("more_body", False)
        self._size += len(piece)
        if self._size > self.body.limit:
            raise too_large(self.body.limit)
        return piece

    async def _receive_piece(self) -> Message:
        """For a handler that takes a stream; what is wrong with it is answered by ``go``, whatever the handler does."""
        if not self._unread:
            return await self._receive()
        try:
            piece = await self._next_piece(self.body.idle)
        except InvalidInput as error:
            self.refusal = error
            return GONE
        except ClientGone:
            return GONE
        return {"type": "http.request", "body": piece, "more_body": self._unread}

    # --- its answer

    async def send(self, message: Message) -> None:
        """Pass the handler's answer on, unless the gate has another."""
        if self.refusal is not None and self.status == 0:
            return
        kind = message["type"]
        if kind in ("http.response.start", "websocket.http.response.start"):
            message = self._note_start(message)
        elif kind == "websocket.accept":
            self.status = 101
            self.take_note()
        elif kind == "websocket.close" and self.status == 0:
            self.status = 403
        elif kind == "http.response.body" and not message.get("more_body", False) and self._unread:
            await self._send({**message, "more_body": True})
            await self._linger()
            message = {"type": kind, "body": b"", "more_body": False}
        await self._send(message)
        if message.get("more_body"):
            await asyncio.sleep(0)  # a handler that never waits would keep everybody out, even when its client is gone

    def _note_start(self, message: Message) -> Message:
        self.status = message["status"]
        headers = list(message.get("headers", []))
        self.operation = next((value.decode() for key, value in headers if key.lower() == b"appcat-operation"), "")
        headers.append((b"x-content-type-options", b"nosniff"))
        if self._unread:  # nobody wants the rest
            headers.append((b"connection", b"close"))
        return {**message, "headers": headers}

    async def refuse(self, error: AppcatError) -> None:
        """Answer with ``error``, if nothing was answered yet; then whoever still sends has time to read it."""
        if self.status:
            self.peer.abort()
            return
        self.refusal = None
        prefix = "websocket.http.response" if self.is_socket else "http.response"
        answer = problems.respond(error)
        await self.send({"type": f"{prefix}.start", "status": answer.status_code, "headers": answer.raw_headers})
        await self.send({"type": f"{prefix}.body", "body": bytes(answer.body), "more_body": False})

    async def _linger(self) -> None:
        deadline = time.monotonic() + LINGER
        try:
            async with asyncio.timeout(LINGER):
                while self._unread and time.monotonic() < deadline:
                    message = await self._receive()
                    self._unread = message["type"] == "http.request" and message.get("more_body", False)
        except TimeoutError:
            pass

    def take_note(self) -> None:
        """Into the audit log, once, if it may have changed something."""
        if not self.noted and self.method not in HARMLESS:
            self.noted = True
            took = time.monotonic() - self.began
            path = self.scope["path"]
            self.gate.audit.note(self.peer, self.method, path, self.status, took, self.operation)


def replay(body: bytes, receive: Receive) -> Receive:
    """A body that is there already; afterwards whatever ``receive`` says."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_replayed() -> Message:
        return waiting.pop() if waiting else await receive()

    return receive_replayed


def has_body(headers: Headers) -> bool:
    """Whether something follows the head."""
    return "transfer-encoding" in headers or headers.get("content-length", "0").strip("0") != ""


def check_host(headers: Headers, peer: Peer) -> None:
    """Refuse a name that is not ours: a page whose own name was made to point here (DNS rebinding)."""
    values = headers.getlist("host")
    if len(values) <= 1 and is_ours(values[0] if values else "", peer):
        return
    raise AppcatError(
        f"this is not {problems.shown(', '.join(values))!r}",
        hint="use the address that 'appcat daemon status' prints",
        code="foreign-host",
    )


def is_ours(host: str, peer: Peer) -> bool:
    """Whether ``Host`` names the door that ``peer`` came through."""
    name = host_name(host)
    if name is None:
        return False
    if name in peer.door.names:
        return True
    return peer.door.kind is not Kind.UNIX and bool(peer.local) and _same_address(name, peer.local)


def host_name(host: str) -> str | None:
    """The name in ``NAME[:PORT]``, in lower case and without brackets; None when there is none to be found."""
    try:
        split = urlsplit(f"//{host}")
        split.port  # noqa: B018 - raises when it is no number
    except ValueError:
        return None
    if split.netloc != host or split.username is not None:
        return None
    return (split.hostname or "").rstrip(".")


def _same_address(one: str, other: str) -> bool:
    try:
        return ip_address(one) == ip_address(other)
    except ValueError:
        return False


def check_origin(headers: Headers, scheme: str) -> None:
    """Refuse what a browser sends for a page that is not ours; programs send neither header."""
    origins = headers.getlist("origin")
    site = headers.get("sec-fetch-site", "none").lower()
    ours = f"{scheme}://{headers.get('host', '')}".lower()
    if all(origin.lower() == ours for origin in origins) and site in ("none", "same-origin"):
        return
    raise AppcatError(
        f"a page of {problems.shown(origins[0] if origins else site)!r} may not use this",
        hint="open /docs at the daemon's own address, or use a program that is no browser",
        code="foreign-origin",
    )


def check_body(headers: Headers, body: Body) -> None:
    """Refuse what ``body`` does not allow; its size only where it is told beforehand."""
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise InvalidInput("compressed bodies are not taken", hint="send it as it is", code="wrong-content-type")
    media = headers.get("content-type", "").partition(";")[0].strip().lower()
    if (has_body(headers) or media) and media not in body.types:
        wanted = " or ".join(sorted(body.types))
        raise InvalidInput(
            f"a body of type {problems.shown(media)!r} is not taken here",
            hint=f"send Content-Type: {wanted}",
            code="wrong-content-type",
        )
    length = headers.get("content-length", "0")
    if length.isdigit() and int(length) > body.limit:
        raise too_large(body.limit)


def too_large(limit: int) -> InvalidInput:
    """The error for a body that is."""
    return InvalidInput("the body is too large", hint=f"{limit} bytes are taken at most", code="too-large")
