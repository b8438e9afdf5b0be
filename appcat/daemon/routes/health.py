"""``/v1/health``, ``/v1/version`` and ``/metrics``: is it there, which one is it, how is it."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter, Request
from starlette.responses import Response

from appcat import __version__
from appcat.daemon import metrics

API = "v1"

router = APIRouter(tags=["daemon"])


@dataclass(frozen=True)
class Health:
    """That it answers."""

    status: str


@dataclass(frozen=True)
class Version:
    """Which daemon this is: of appcat, of its API, and the directory that it serves."""

    version: str
    api: str
    home: str


@router.get("/v1/health")
async def health() -> Health:
    """Say that the daemon answers. Needs no token."""
    return Health("ok")


@router.get("/v1/version")
async def version(request: Request) -> Version:
    """Say which appcat this is, and whose."""
    return Version(__version__, API, str(request.app.state.ctx.layout.home))


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
def show_metrics(request: Request) -> Response:
    """What Prometheus reads."""
    return Response(request.app.state.metrics.text(), media_type=metrics.CONTENT_TYPE)
