"""Prometheus metrics: a registry per application, and a list to which others add what they know."""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Info
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.process_collector import ProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from appcat import __version__
from appcat.services.context import Context

# Called with the registry of a new application and its context: registers collectors of its own.
HOOKS: list[Callable[[CollectorRegistry, Context], None]] = []
CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """What is counted of one application. ``registry`` takes what others want to tell."""

    def __init__(self, ctx: Context) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(namespace="appcat_daemon", registry=self.registry)
        Info("appcat", "The daemon.", registry=self.registry).info({"version": __version__})
        started = Gauge("appcat_daemon_start_seconds", "When it started, since the epoch.", registry=self.registry)
        started.set(time.time())
        self.requests = Counter("appcat_requests", "Requests answered.", ["method", "status"], registry=self.registry)
        self.open = Gauge("appcat_requests_open", "Requests and streams under way.", registry=self.registry)
        for hook in HOOKS:
            hook(self.registry, ctx)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self.registry)


class Counting:
    """ASGI around ASGI: counts what ``app`` answers."""

    METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in self.METHODS else "other"

        async def count(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.metrics.requests.labels(method, str(message["status"])).inc()
            await send(message)

        with self.metrics.open.track_inprogress():
            await self.app(scope, receive, count)
