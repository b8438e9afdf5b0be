"""What one connection may take: raw bytes against the real server, in a thread of this process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI, Request, WebSocket
from starlette.responses import Response, StreamingResponse
from websockets.sync.client import connect, unix_connect

from appcat.daemon import connection, listening, streams, tls
from appcat.daemon.audit import Audit
from appcat.daemon.door import Door, tcp_door, unix_door
from appcat.daemon.gate import Gate
from appcat.daemon.guard import Guard
from appcat.daemon.listening import Listening
from appcat.daemon.server import begin_to_end, create_app
from appcat.model.listen import Listen
from appcat.services import tokens
from appcat.services.context import Context
from tests.unit.support.processes import eventually

HEALTH = b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\n"
PATIENCE = 20.0


@dataclass
class Served:
    """A server that runs, with a unix door and a TCP door."""

    ctx: Context
    doors: list[Door]
    feed: streams.Feed = field(default_factory=streams.Feed)
    server: Any = None

    def dial(self) -> socket.socket:
        door = socket.socket(socket.AF_UNIX)
        door.settimeout(PATIENCE)
        door.connect(str(self.ctx.layout.daemon_socket))
        return door

    def dial_tcp(self) -> socket.socket:
        return socket.create_connection(self.doors[1].socket.getsockname()[:2], PATIENCE)

    def ask(self, request: bytes) -> tuple[int, bytes]:
        with self.dial() as door:
            door.sendall(request)
            return answer(door)


class InThread(Listening):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def answer(door: socket.socket) -> tuple[int, bytes]:
    """Status and body of one answer with a Content-Length."""
    head, body = read_head(door)
    length = int(
        next(line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
    )
    while len(body) < length:
        data = door.recv(65536)
        assert data, "the answer breaks off"
        body += data
    return int(head.split()[1]), body


def read_head(door: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        more = door.recv(65536)
        assert more, f"the answer breaks off after {data!r}"
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    return head, body


def ends(door: socket.socket) -> bool:
    """Whether the server hangs up, sooner or later."""
    with contextlib.suppress(ConnectionResetError):
        while door.recv(65536):
            pass
    return True


def add_routes(app: FastAPI, feed: streams.Feed) -> None:
    @app.get("/events")
    async def events() -> StreamingResponse:
        return streams.respond(streams.follow(feed), heartbeat=0.05)

    @app.get("/flood")
    async def flood() -> StreamingResponse:
        async def words() -> Any:
            while True:
                yield b"x" * 65536

        return StreamingResponse(words())

    @app.post("/echo")
    async def echo(request: Request) -> Response:
        return Response(await request.body())

    @app.websocket("/echo")
    async def talk(socket: WebSocket) -> None:
        await socket.accept()
        async for text in socket.iter_text():
            await socket.send_text(text)


@pytest.fixture
def served(ctx: Context, request: pytest.FixtureRequest) -> Iterator[Served]:
    identity = getattr(request, "param", None) and tls.own(
        ctx.layout.tls_certificate, ctx.layout.tls_key, ["localhost", "127.0.0.1"]
    )
    app = create_app(ctx)
    guard = Guard(ctx)
    gate = Gate(app, guard, Audit(ctx.layout.audit_log))
    context = identity.context if identity else None
    ready = threading.Event()
    with (
        unix_door(ctx.layout.daemon_socket, gate) as door,
        tcp_door(Listen("127.0.0.1", 0), gate, context, frozenset()) as tcp,
    ):
        found = Served(ctx, [door, tcp])
        add_routes(app, found.feed)
        app.state.closing.append(found.feed.close)
        found.server = InThread(
            [door, tcp], grace=5, still_wanted=lambda: True, is_welcome=guard.is_welcome, started=ready.set,
            closing=lambda: begin_to_end(app), lifespan=app,
        )  # fmt: skip
        thread = threading.Thread(target=lambda: asyncio.run(found.server.serve()))
        thread.start()
        try:
            assert ready.wait(PATIENCE)
            yield found
        finally:
            found.server.should_exit = True
            thread.join(PATIENCE)
            assert not thread.is_alive()


@pytest.fixture
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_DEADLINE", 0.3)
    monkeypatch.setattr(connection, "READ_PATIENCE", 0.3)
    monkeypatch.setattr(listening, "CHECK_EVERY", 0.1)
    monkeypatch.setattr(listening, "HANDSHAKE_DEADLINE", 0.3)


def problem(got: tuple[int, bytes]) -> tuple[int, str]:
    return got[0], json.loads(got[1])["code"]


def test_requests_one_after_the_other_on_one_connection(served: Served) -> None:
    with served.dial() as door:
        for _ in range(3):
            door.sendall(HEALTH + b"\r\n")
            assert answer(door) == (200, b'{"status":"ok"}')
        door.sendall(2 * (HEALTH + b"\r\n"))  # and two at once
        assert read_head(door)[0].startswith(b"HTTP/1.1 200")


@pytest.mark.usefixtures("short_patience")
def test_head_that_does_not_come_to_its_end_is_refused(served: Served) -> None:
    with served.dial() as door:
        door.sendall(HEALTH)
        assert problem(answer(door)) == (408, "too-slow")
        assert ends(door)


@pytest.mark.usefixtures("short_patience")
def test_head_that_trickles_is_refused(served: Served) -> None:
    with served.dial() as door:
        with contextlib.suppress(BrokenPipeError):
            for number in range(400):
                door.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n" if not number else b"X-A: 1\r\n")
                time.sleep(0.01)
        assert problem(answer(door)) == (408, "too-slow")


@pytest.mark.usefixtures("short_patience")
def test_second_head_has_the_same_time_and_idle_connections_have_more(served: Served) -> None:
    with served.dial() as door:
        for _ in range(2):
            door.sendall(HEALTH + b"\r\n")
            assert answer(door)[0] == 200
            time.sleep(0.5)  # longer than a head may take
        door.sendall(HEALTH)
        assert problem(answer(door)) == (408, "too-slow")


@pytest.mark.usefixtures("short_patience")
def test_connection_that_says_nothing_is_closed(served: Served) -> None:
    with served.dial() as door:
        assert door.recv(1) == b""


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n", 400, "invalid-input"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "invalid-input"),  # no Host
        (HEALTH + b"X: " + b"x" * (40 << 10), 431, "headers-too-large"),
        (b"GET /" + b"x" * (40 << 10), 431, "headers-too-large"),
        (HEALTH + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, "invalid-input"),
        (b"POST /echo HTTP/1.1\r\nHost: localhost\r\nHost: b\r\n\r\n", 400, "invalid-input"),
    ],
)
def test_what_is_no_request_is_refused(served: Served, request_: bytes, status: int, code: str) -> None:
    with served.dial() as door:
        door.sendall(request_)
        assert problem(answer(door)) == (status, code)
        assert ends(door)


POST = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def test_body_that_breaks_its_encoding_ends_the_connection(served: Served) -> None:
    with served.dial() as door:
        door.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\nnonsense\r\n")
        assert problem(answer(door)) == (400, "invalid-input")
        assert ends(door)


def test_endless_body_is_refused_and_its_sender_can_read_why(served: Served) -> None:
    with served.dial() as door:
        door.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n")
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(64):
                door.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        assert problem(answer(door)) == (413, "too-large")
        assert ends(door)


def test_announced_body_is_refused_before_it_is_sent(served: Served) -> None:
    with served.dial() as door:
        door.sendall(POST + b"Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n")
        assert problem(answer(door)) == (413, "too-large")


def test_many_connections_at_once_are_kept_alive(served: Served) -> None:
    with contextlib.ExitStack() as stack:
        doors = [stack.enter_context(served.dial()) for _ in range(200)]
        for _ in range(2):
            for door in doors:
                door.sendall(HEALTH + b"\r\n")
            assert {answer(door)[0] for door in doors} == {200}


def test_connection_too_many_is_refused_truthfully(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MOST_CONNECTIONS", 2)
    monkeypatch.setattr(connection, "RESERVED", 0)
    with served.dial() as one, served.dial() as two:
        for door in (one, two):
            door.sendall(HEALTH + b"\r\n")
            assert answer(door)[0] == 200
        with served.dial() as third:
            assert problem(answer(third)) == (503, "too-many-connections")
        monkeypatch.setattr(connection, "RESERVED", 1)
        one.close()
        assert eventually(lambda: len(served.server.server_state.connections) == 1)
        with served.dial_tcp() as stranger:
            assert problem(answer(stranger)) == (503, "too-many-connections")
        assert eventually(lambda: served.ask(HEALTH + b"\r\n")[0] == 200)


def test_another_user_is_refused_even_when_the_file_lets_them(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "may_enter", lambda _peer: False)
    with served.dial() as door:
        assert problem(answer(door)) == (403, "foreign-user")


@pytest.mark.usefixtures("short_patience")
def test_client_that_does_not_read_is_cut_off(served: Served) -> None:
    with served.dial() as door:
        door.sendall(b"GET /flood HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert eventually(lambda: len(served.server.server_state.connections) == 1)
        assert eventually(lambda: len(served.server.server_state.connections) == 0)


def test_stream_of_a_client_that_goes_ends(served: Served) -> None:
    with served.dial() as door:
        door.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert read_head(door)[0].startswith(b"HTTP/1.1 200")
        assert eventually(lambda: served.feed.readers == 1)
    assert eventually(lambda: served.feed.readers == 0)


def test_idle_streams_take_no_threads_and_hold_nobody_up(served: Served) -> None:
    before = threading.active_count()
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            door = stack.enter_context(served.dial())
            door.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            read_head(door)
        assert threading.active_count() <= before + 1
        assert served.ask(HEALTH + b"\r\n")[0] == 200


def test_end_closes_streams_in_order(served: Served) -> None:
    with served.dial() as door, unix_connect(str(served.ctx.layout.daemon_socket), "ws://localhost/echo") as talk:
        door.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        read_head(door)
        served.server.should_exit = True
        said = b""
        while data := door.recv(65536):
            said += data
        assert said.endswith(b"0\r\n\r\n")  # whole, not broken off
        with pytest.raises(Exception, match="1012"):
            talk.recv(PATIENCE)


def test_websocket_is_not_compressed_and_bounded(served: Served) -> None:
    with unix_connect(str(served.ctx.layout.daemon_socket), "ws://localhost/echo") as talk:
        assert talk.protocol.extensions == []
        talk.send("cat")
        assert talk.recv(PATIENCE) == "cat"
        with pytest.raises(Exception, match=r"1009|no close frame"):
            talk.send("x" * (2 << 20))
            talk.recv(PATIENCE)


def test_foreign_websocket_is_told_why(served: Served) -> None:
    path = str(served.ctx.layout.daemon_socket)
    with (
        pytest.raises(Exception, match="403"),
        unix_connect(path, "ws://localhost/echo", origin="https://evil.example"),
    ):
        pass


@pytest.mark.usefixtures("short_patience")
def test_streams_end_with_the_token_that_opened_them(served: Served) -> None:
    secret = tokens.add(served.ctx, "me")
    port = served.doors[1].socket.getsockname()[1]
    headers = {"Authorization": f"Bearer {secret}"}
    with connect(f"ws://127.0.0.1:{port}/echo", additional_headers=headers) as talk, served.dial_tcp() as door:
        door.sendall(f"GET /events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {secret}\r\n\r\n".encode())
        assert read_head(door)[0].startswith(b"HTTP/1.1 200")
        talk.send("cat")
        assert talk.recv(PATIENCE) == "cat"
        tokens.remove(served.ctx, "me")
        assert ends(door)
        with pytest.raises(Exception, match="no close frame"):
            talk.recv(PATIENCE)


@pytest.mark.parametrize("served", [True], indirect=True)
def test_tls_door_speaks_tls_alone(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    context = ssl.create_default_context(cafile=str(served.ctx.layout.tls_certificate))
    with served.dial_tcp() as plain, context.wrap_socket(plain, server_hostname="localhost") as door:
        door.sendall(HEALTH + b"\r\n")
        assert answer(door)[0] == 200
        assert door.version() in ("TLSv1.2", "TLSv1.3")
        door.sendall(HEALTH.replace(b"health", b"version") + b"\r\n")
        assert problem(answer(door)) == (401, "unauthorized")
    with served.dial_tcp() as plain:
        plain.sendall(HEALTH + b"\r\n")
        assert ends(plain)


@pytest.mark.parametrize("served", [True], indirect=True)
def test_own_certificate_is_trusted_by_its_file_alone(served: Served, tmp_path: Path) -> None:
    with served.dial_tcp() as plain, pytest.raises(ssl.SSLCertVerificationError):
        ssl.create_default_context().wrap_socket(plain, server_hostname="localhost")


@pytest.mark.usefixtures("short_patience")
@pytest.mark.parametrize("silent", [b"", b"\x16\x03\x01"])
def test_handshake_that_does_not_come_to_its_end_is_ended(ctx: Context, silent: bytes, request: Any) -> None:
    request.getfixturevalue("short_patience")
    request.param = True
    gen = served.__wrapped__(ctx, request)  # the fixture's own function, after patience was shortened
    found = next(gen)
    try:
        with found.dial_tcp() as plain:
            plain.sendall(silent)
            assert ends(plain)
    finally:
        next(gen, None)
