"""The application behind the doors: routes, errors, documents, and the threads that do the work."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Annotated

import anyio.to_thread
from fastapi import Depends, FastAPI, Request

from appcat import __version__
from appcat.daemon import docs, problems
from appcat.daemon.desk import Desk
from appcat.daemon.gauges import Gauges
from appcat.daemon.metrics import Counting, Metrics
from appcat.daemon.problems import Problem
from appcat.daemon.routes import ROUTERS
from appcat.errors import Unavailable
from appcat.services.context import Context

HANDLER_THREADS = 40
OPERATION_THREADS = 64
DESCRIPTION = (
    "Virtual machines on this computer, as the command line has them. Every answer that is no success is a `Problem`; "
    "`docs/errors.md` lists the codes. Over TCP, send `Authorization: Bearer SECRET`."
)


def create_app(ctx: Context) -> FastAPI:
    """The native API over the services of ``ctx``.

    ``app.state`` holds ``ctx``; ``operation_threads``, a pool for work that outlives its request (``in_background``);
    the ``desk``, with which routes work; ``metrics``; and ``closing``, a list of functions that are called when the
    daemon begins to end (close your feeds there).
    """
    app = FastAPI(
        title="appcat",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=_lifespan,
        responses={"default": {"model": Problem, "description": "What went wrong, and what to do."}},
    )
    closing: list[Callable[[], None]] = []
    app.state.ctx = ctx
    app.state.closing = closing
    app.state.metrics = Metrics(ctx)
    app.state.operation_threads = ThreadPoolExecutor(OPERATION_THREADS, thread_name_prefix="operation")
    desk = app.state.desk = Desk(ctx, app.state.operation_threads)
    closing.append(desk.close)
    app.state.metrics.registry.register(Gauges(desk))
    problems.install(app)
    docs.install(app)
    app.add_middleware(Counting, metrics=app.state.metrics)
    for router in ROUTERS:
        app.include_router(router)
    return app


def fresh_context(request: Request) -> Context:
    """A context for one request: what an older one remembers of this host (QEMU's version) may be out of date."""
    kept: Context = request.app.state.ctx
    return replace(kept)


Ctx = Annotated[Context, Depends(fresh_context)]


def in_background(app: FastAPI, work: Callable[[], None]) -> None:
    """Have ``work`` done by a thread of its own, for longer than the request takes; raises Unavailable at the end."""
    threads: ThreadPoolExecutor = app.state.operation_threads
    try:
        threads.submit(work)
    except RuntimeError as error:
        raise Unavailable("the daemon is ending", hint="try again when it runs again", code="daemon-ending") from error


def begin_to_end(app: FastAPI) -> None:
    """Have endless streams end."""
    for function in app.state.closing:
        function()


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    anyio.to_thread.current_default_thread_limiter().total_tokens = HANDLER_THREADS
    async with app.state.desk.open():
        yield
