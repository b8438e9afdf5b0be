from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from fastapi import FastAPI, Request, WebSocket
from pydantic import BaseModel
from starlette.responses import Response, StreamingResponse

from appcat.daemon import gate as gates
from appcat.daemon import problems
from appcat.daemon.bodies import BYTES, Bodies, Body
from appcat.daemon.door import Kind
from appcat.daemon.gate import host_name
from appcat.errors import Busy
from appcat.services import tokens
from appcat.services.context import Context
from tests.unit.daemon.behind import Behind, exchange, piece, pieces, scope_of


class Thing(BaseModel):
    name: str
    size: int = 1


def an_app() -> FastAPI:
    app = FastAPI()
    problems.install(app)

    @app.get("/v1/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.post("/things")
    def make(thing: Thing, response: Response) -> dict[str, Any]:
        if thing.name == "busy":
            raise Busy("web is busy: clone", hint="wait")
        if thing.name == "fault":
            raise ZeroDivisionError("secret words")
        response.headers["Appcat-Operation"] = "op1"
        return {"name": thing.name}

    @app.delete("/things/{name}")
    def delete(name: str) -> dict[str, str]:
        return {"deleted": name}

    @app.put("/files/{name}")
    async def put(name: str, request: Request) -> dict[str, int]:
        return {"bytes": sum([len(data) async for data in request.stream()])}

    @app.put("/ignored/{name}")
    async def ignore(name: str) -> dict[str, str]:
        return {"ignored": name}

    @app.get("/broken")
    def broken() -> StreamingResponse:
        def words() -> Any:
            yield b"one"
            raise ZeroDivisionError

        return StreamingResponse(words())

    app.add_api_websocket_route("/console", console)
    return app


async def console(socket: WebSocket) -> None:
    await socket.accept()
    await socket.close()


@pytest.fixture
def app() -> FastAPI:
    return an_app()


@pytest.fixture
def behind(ctx: Context, app: FastAPI) -> Behind:
    return Behind(ctx, app)


@pytest.fixture
def tcp(ctx: Context, app: FastAPI) -> Behind:
    return Behind(ctx, app, Kind.TCP)


# --- whom it is meant for, and who sends it


@pytest.mark.parametrize("host", ["localhost", "appcat", "LOCALHOST:80"])
def test_unix_socket_has_these_names(behind: Behind, host: str) -> None:
    assert behind.send("GET", "/v1/health", headers={"Host": host}).json() == {"status": "ok"}


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "[::1]:8080", "localhost.:8080", "myhost", "192.0.2.9:8080"])
def test_tcp_door_has_its_addresses_and_the_hosts_name(tcp: Behind, host: str) -> None:
    assert tcp.send("GET", "/v1/health", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:8080", "192.0.2.8"])
@pytest.mark.parametrize("kind", Kind)
def test_foreign_host_is_refused(ctx: Context, app: FastAPI, kind: Kind, host: str) -> None:
    Behind(ctx, app, kind).refused(403, "foreign-host", "GET", "/v1/health", headers={"Host": host})


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("a:1", "a"), ("A", "a"), ("[::1]:1", "::1"), ("", ""), ("a@b", None), ("a/b", None), ("a:b", None),
        ("a?b", None), ("a#b", None), ("[::1", None), ("a:99999", None), ("localhost@evil", None),
    ],
)  # fmt: skip
def test_host_is_a_name_and_perhaps_a_port(host: str, name: str | None) -> None:
    assert host_name(host) == name


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:3000", "https://localhost", ""])
def test_foreign_page_is_refused(behind: Behind, origin: str) -> None:
    behind.refused(403, "foreign-origin", "GET", "/v1/health", headers={"Origin": origin})


@pytest.mark.parametrize("site", ["cross-site", "same-site", "something-new"])
def test_what_a_foreign_page_embeds_is_refused(behind: Behind, site: str) -> None:
    behind.refused(403, "foreign-origin", "GET", "/v1/health", headers={"Sec-Fetch-Site": site})


def test_own_page_may(behind: Behind) -> None:
    headers = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}
    answer = behind.send("GET", "/v1/health", headers=headers)
    assert answer.status_code == 200
    assert not any(name.startswith("access-control-") for name in answer.headers)


def test_preflight_gets_no_permission(behind: Behind) -> None:
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    behind.refused(403, "foreign-origin", "OPTIONS", "/things", headers=headers)


# --- tokens


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def test_tcp_wants_a_token(tcp: Behind, ctx: Context) -> None:
    tcp.refused(401, "unauthorized", "DELETE", "/things/a")
    secret = tokens.add(ctx, "me")
    assert tcp.send("DELETE", "/things/a", headers=bearer(secret)).status_code == 200
    for wrong in (secret[:-1], secret + "x", "", tokens.tokens(ctx)[0].sha256):
        tcp.refused(401, "unauthorized", "DELETE", "/things/a", headers=bearer(wrong))
    tcp.refused(401, "unauthorized", "DELETE", "/things/a", headers={"Authorization": f"Basic {secret}"})


def test_401_says_how_to_authenticate(tcp: Behind) -> None:
    assert tcp.send("GET", "/things").headers["www-authenticate"] == 'Bearer realm="appcat"'


def test_removed_and_expired_tokens_are_refused_at_once(tcp: Behind, ctx: Context) -> None:
    secret = tokens.add(ctx, "me")
    assert tcp.send("DELETE", "/things/a", headers=bearer(secret)).status_code == 200
    assert tcp.gate.guard.is_welcome(tcp.peer)
    tokens.remove(ctx, "me")
    tcp.refused(401, "unauthorized", "DELETE", "/things/a", headers=bearer(secret))
    assert not tcp.gate.guard.is_welcome(tcp.peer)
    late = tokens.add(ctx, "late", timedelta(seconds=-1))
    tcp.refused(401, "unauthorized", "DELETE", "/things/a", headers=bearer(late))


def test_broken_token_file_lets_nobody_in(tcp: Behind, ctx: Context) -> None:
    secret = tokens.add(ctx, "me")
    ctx.layout.tokens.write_text("{}")
    tcp.refused(401, "unauthorized", "DELETE", "/things/a", headers=bearer(secret))


@pytest.mark.parametrize("path", ["/v1/health", "/docs", "/docs/swagger-ui.css", "/openapi.json"])
def test_public_pages_need_no_token_for_reading(tcp: Behind, path: str) -> None:
    assert tcp.send("GET", path).status_code in (200, 404)  # a bare application has no such assets
    tcp.refused(401, "unauthorized", "POST", path)


def test_unix_socket_needs_no_token(behind: Behind) -> None:
    assert behind.send("DELETE", "/things/a").status_code == 200


# --- bodies


def test_json_comes_through(behind: Behind) -> None:
    assert behind.send("POST", "/things", json={"name": "a"}).json() == {"name": "a"}
    answer = behind.send("POST", "/things", content=b'{"name": "b"}', headers={"Content-Type": "Application/JSON; x=y"})
    assert answer.json() == {"name": "b"}


@pytest.mark.parametrize("media", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", BYTES])
def test_other_types_are_refused(behind: Behind, media: str) -> None:
    headers = {"Content-Type": media}
    behind.refused(415, "wrong-content-type", "POST", "/things", content=b'{"name": "a"}', headers=headers)


def test_empty_form_is_refused(behind: Behind) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    behind.refused(415, "wrong-content-type", "DELETE", "/things/a", headers=headers)


def test_compressed_body_is_refused(behind: Behind) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    behind.refused(415, "wrong-content-type", "POST", "/things", content=b"x", headers=headers)


def test_large_body_is_refused_whether_announced_or_not(behind: Behind) -> None:
    headers = {"Content-Type": "application/json"}
    behind.refused(413, "too-large", "POST", "/things", content=b" " * ((1 << 20) + 1), headers=headers)

    async def endless() -> Any:
        while True:
            yield b" " * 65536

    behind.refused(413, "too-large", "POST", "/things", content=endless(), headers=headers)


def test_refusal_of_a_body_ends_the_connection(behind: Behind) -> None:
    answer = behind.send(
        "POST", "/things", content=b" " * ((1 << 20) + 1), headers={"Content-Type": "application/json"}
    )
    assert answer.headers["connection"] == "close"
    assert "connection" not in behind.send("POST", "/things", json={"name": "a"}).headers


def small(**limits: Any) -> Bodies:
    return Bodies(Body(frozenset({"application/json"}), 1000, **limits))


JSON_HEADERS = {"content-type": "application/json", "transfer-encoding": "chunked"}


@pytest.mark.parametrize("limits", [{"idle": 0.05}, {"idle": 10.0, "total": 0.05}])
def test_slow_body_is_refused(behind: Behind, monkeypatch: pytest.MonkeyPatch, limits: dict[str, float]) -> None:
    monkeypatch.setattr(gates, "LINGER", 0.05)
    behind.gate.bodies = small(**limits)
    scope = scope_of("POST", "/things", JSON_HEADERS)
    sent = asyncio.run(exchange(behind, scope, pieces(piece(b"{"))))
    assert sent[0]["status"] == 408 and b"too-slow" in sent[1]["body"]
    assert sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


def test_client_that_goes_in_the_middle_of_a_body_is_not_answered(behind: Behind) -> None:
    scope = scope_of("POST", "/things", JSON_HEADERS)
    sent = asyncio.run(exchange(behind, scope, pieces(piece(b"{"), {"type": "http.disconnect"})))
    assert sent == []
    assert behind.audited()[0]["status"] == 0


@pytest.fixture
def streaming(behind: Behind) -> Behind:
    bodies = Bodies()
    for path in ("/files/{name}", "/ignored/{name}"):
        bodies.declare("PUT", path, BYTES, limit=1000, idle=0.1)
    behind.gate.bodies = bodies
    return behind


STREAM_HEADERS = {"content-type": BYTES, "transfer-encoding": "chunked"}


def test_declared_route_takes_a_stream(streaming: Behind) -> None:
    assert streaming.send("PUT", "/files/a", content=b"x" * 999, headers={"Content-Type": BYTES}).json() == {
        "bytes": 999
    }
    streaming.refused(415, "wrong-content-type", "PUT", "/files/a", json={})
    streaming.refused(415, "wrong-content-type", "PUT", "/elsewhere", content=b"x", headers={"Content-Type": BYTES})


def test_stream_has_an_end_too(streaming: Behind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "LINGER", 0.05)
    scope = scope_of("PUT", "/files/a", STREAM_HEADERS)
    sent = asyncio.run(exchange(streaming, scope, pieces(piece(b"x" * 600), piece(b"x" * 600))))
    assert sent[0]["status"] == 413
    scope = scope_of("PUT", "/files/a", STREAM_HEADERS)
    sent = asyncio.run(exchange(streaming, scope, pieces(piece(b"x" * 600))))
    assert sent[0]["status"] == 408


def test_stream_that_breaks_off_is_told_to_its_handler(streaming: Behind) -> None:
    scope = scope_of("PUT", "/files/a", STREAM_HEADERS)
    sent = asyncio.run(exchange(streaming, scope, pieces(piece(b"x"), {"type": "http.disconnect"})))
    assert sent[0]["status"] == 400


def test_stream_that_nobody_reads_ends_the_connection(streaming: Behind, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "LINGER", 0.05)

    async def endless() -> Any:
        await asyncio.sleep(0)
        return piece(b"x" * 100)

    sent = asyncio.run(exchange(streaming, scope_of("PUT", "/ignored/a", STREAM_HEADERS), pieces(then=endless)))
    assert sent[0]["status"] == 200 and (b"connection", b"close") in sent[0]["headers"]
    assert sent[-1]["more_body"] is False


# --- answers


def test_errors_of_handlers_are_problems(behind: Behind) -> None:
    told = behind.refused(409, "busy", "POST", "/things", json={"name": "busy"})
    assert told == {"code": "busy", "message": "web is busy: clone", "hint": "wait", "details": "", "exit_code": 4}


def test_fault_is_logged_with_its_traceback_once_and_told_without(
    behind: Behind, caplog: pytest.LogCaptureFixture
) -> None:
    told = behind.refused(500, "internal", "POST", "/things", json={"name": "fault"})
    assert "secret words" not in str(told)
    assert caplog.text.count("ZeroDivisionError: secret words") == 1


def test_answer_that_breaks_off_is_not_taken_for_whole(behind: Behind) -> None:
    sent = asyncio.run(exchange(behind, scope_of("GET", "/broken", {}), pieces(piece(b"", False))))
    assert sent[0]["status"] == 200 and all(message.get("more_body", True) for message in sent)
    assert behind.aborted == [True]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{", "the body is not JSON"),
        (b"", "required"),
        (b"[" * 200_000, ""),
        (b"\xff\xfe", ""),
        (b"[]", "body"),
        (b"{}", "name: field required"),
        (b'{"name": "a", "size": "large"}', "size: input should be a valid integer"),
        (b'{"name": "a", "size": ' + b"9" * 5000 + b"}", ""),
        (b'{"name": "a", "size": NaN}', ""),
    ],
)
def test_nonsense_is_bad_input_and_names_the_field(behind: Behind, body: bytes, words: str) -> None:
    told = behind.refused(
        400, "invalid-input", "POST", "/things", content=body, headers={"Content-Type": "application/json"}
    )
    assert words in told["message"] and "\n" not in told["message"]


# --- the audit log


def test_changing_requests_are_noted_and_only_those(behind: Behind) -> None:
    behind.send("GET", "/v1/health")
    behind.send("POST", "/things?key=hidden", json={"name": "a"})
    behind.send("POST", "/things", json={"name": "busy"})
    behind.send("POST", "/things", content=b"x", headers={"Host": "evil.example"})
    made, busy, foreign = behind.audited()
    assert [line["status"] for line in (made, busy, foreign)] == [200, 409, 403]
    assert made["operation"] == "op1" and busy["operation"] == ""
    assert (made["door"], made["who"], made["method"], made["path"]) == ("unix", "uid:1000", "POST", "/things")
    assert "hidden" not in behind.ctx.layout.audit_log.read_text()
    assert behind.ctx.layout.audit_log.stat().st_mode & 0o777 == 0o600


def test_token_is_noted_by_its_name(tcp: Behind, ctx: Context) -> None:
    secret = tokens.add(ctx, "me")
    tcp.send("DELETE", "/things/a", headers=bearer(secret))
    tcp.send("DELETE", "/things/a", headers=bearer("wrong"))
    right, wrong = tcp.audited()
    assert (right["who"], right["peer"], right["status"]) == ("token:me", "192.0.2.1:1234", 200)
    assert (wrong["who"], wrong["status"]) == ("", 401)
    assert secret not in ctx.layout.audit_log.read_text()


def test_paths_cannot_forge_lines(behind: Behind) -> None:
    behind.send("DELETE", "/things/a%0A%7B%22forged%22:1%7D" + "x" * 2000)
    (line,) = behind.audited()
    assert line["path"].startswith("/things/a\n{") and len(line["path"]) == 512


# --- WebSockets


def socket_scope(headers: dict[str, str]) -> dict[str, Any]:
    scope = dict(scope_of("GET", "/console", headers))
    scope.pop("method")
    return {**scope, "type": "websocket", "subprotocols": [], "extensions": {"websocket.http.response": {}}}


def test_websocket_is_opened_and_noted(behind: Behind) -> None:
    sent = asyncio.run(exchange(behind, socket_scope({}), pieces({"type": "websocket.connect"})))
    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.close"]
    (line,) = behind.audited()
    assert (line["method"], line["path"], line["status"]) == ("WEBSOCKET", "/console", 101)


@pytest.mark.parametrize("headers", [{"origin": "https://evil.example"}, {"host": "evil.example"}])
def test_websocket_of_a_foreign_page_is_refused(behind: Behind, headers: dict[str, str]) -> None:
    sent = asyncio.run(exchange(behind, socket_scope(headers), pieces({"type": "websocket.connect"})))
    assert sent[0]["type"] == "websocket.http.response.start" and sent[0]["status"] == 403
    assert behind.audited()[0]["status"] == 403


def test_websocket_needs_a_token_too(tcp: Behind) -> None:
    sent = asyncio.run(exchange(tcp, socket_scope({}), pieces({"type": "websocket.connect"})))
    assert sent[0]["status"] == 401
