from __future__ import annotations

import re
import threading
from typing import Any

import pytest
from fastapi import FastAPI

from appcat import __version__
from appcat.daemon import docs, metrics, server
from appcat.daemon.door import Kind
from appcat.errors import Unavailable
from appcat.services import tokens
from appcat.services.context import Context
from tests.unit.daemon.behind import Behind


@pytest.fixture
def app(ctx: Context) -> FastAPI:
    return server.create_app(ctx)


@pytest.fixture
def behind(ctx: Context, app: FastAPI) -> Behind:
    return Behind(ctx, app)


def test_health_and_version(behind: Behind, ctx: Context) -> None:
    assert behind.send("GET", "/v1/health").json() == {"status": "ok"}
    expected = {"version": __version__, "api": "v1", "home": str(ctx.layout.home)}
    assert behind.send("GET", "/v1/version").json() == expected


def test_over_tcp_only_health_and_documents_are_public(ctx: Context, app: FastAPI) -> None:
    tcp = Behind(ctx, app, Kind.TCP)
    for path in ("/v1/version", "/metrics"):
        tcp.refused(401, "unauthorized", "GET", path)
    secret = tokens.add(ctx, "me")
    assert tcp.send("GET", "/v1/version", headers={"Authorization": f"Bearer {secret}"}).status_code == 200
    for path in ("/v1/health", "/docs", "/openapi.json", *(f"/docs/{name}" for name in docs.ASSETS)):
        assert tcp.send("GET", path).status_code == 200


def test_router_refuses_in_our_words(behind: Behind) -> None:
    behind.refused(404, "no-such-path", "GET", "/v1/nothing")
    behind.refused(405, "method-not-allowed", "DELETE", "/v1/health")
    assert "GET" in behind.send("DELETE", "/v1/health").headers["allow"]


def test_documents_come_from_here_alone(behind: Behind) -> None:
    page = behind.send("GET", "/docs")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    used = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(used) == 4
    for path in [*used, "/openapi.json"]:
        answer = behind.send("GET", path)
        assert path.startswith("/") and answer.status_code == 200 and answer.content
    assert "<script>" not in page.text and "//" not in page.text.replace("<!DOCTYPE", "")


def test_openapi_document_tells_errors_and_token(behind: Behind) -> None:
    document: dict[str, Any] = behind.send("GET", "/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    for operations in document["paths"].values():
        for operation in operations.values():
            schema = operation["responses"]["default"]["content"]["application/json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/Problem"}
            assert "422" not in operation["responses"]


def test_metrics_count_requests_and_take_what_others_add(ctx: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    from prometheus_client import Gauge

    monkeypatch.setattr(metrics, "HOOKS", [lambda registry, _: Gauge("cats", "How many.", registry=registry).set(9)])
    behind = Behind(ctx, server.create_app(ctx))
    behind.send("GET", "/v1/nothing")
    behind.send("BREW", "/v1/health")
    text = behind.send("GET", "/metrics").text
    assert 'appcat_requests_total{method="GET",status="404"} 1.0' in text
    assert 'appcat_requests_total{method="other",status="405"} 1.0' in text
    assert f'appcat_info{{version="{__version__}"}} 1.0' in text
    assert "cats 9.0" in text


def test_every_request_sees_the_host_anew(app: FastAPI, ctx: Context) -> None:
    request: Any = type("R", (), {"app": app})()
    assert server.fresh_context(request) == ctx
    assert server.fresh_context(request) is not ctx


def test_work_goes_on_in_the_background_until_the_daemon_ends(app: FastAPI) -> None:
    done = threading.Event()
    server.in_background(app, done.set)
    assert done.wait(20)
    app.state.operation_threads.shutdown()
    with pytest.raises(Unavailable) as caught:
        server.in_background(app, done.set)
    assert caught.value.code == "daemon-ending"
