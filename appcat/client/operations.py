"""Long work on the other side: followed from here, and called off when this side is interrupted."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from appcat.client.errors import error_from
from appcat.client.http import Http, path
from appcat.errors import AppcatError, Conflict
from appcat.model.shapes import OperationInfo
from appcat.services.context import Progress

WAIT = 30
RUNNING, SUCCEEDED, CANCELLED = "running", "succeeded", "cancelled"


def follow(http: Http, progress: Progress, method: str, where: str, body: Mapping[str, Any] | None = None) -> Any:
    """Begin an operation and wait for its end: its result; raises the error that it failed with.

    ``progress`` is told what it tells. On an interrupt it is asked to stop, once, and not waited for.
    """
    return result_of(finished(http, progress, http.call(method, where, body=body or {})["operation"]))


def finished(http: Http, progress: Progress, operation: OperationInfo) -> OperationInfo:
    """The operation when it is over. Raises as ``Http.call``, KeyboardInterrupt."""
    where = path("operations", operation["id"])
    try:
        while operation["state"] == RUNNING:
            if operation["step"]:
                progress(operation["step"], operation["done"], operation["total"])
            operation = http.call("GET", where, query={"wait": WAIT, "progress": 1})
    except KeyboardInterrupt:
        with contextlib.suppress(AppcatError):
            http.call("POST", f"{where}/cancel", body={})
        raise
    return operation


def result_of(operation: OperationInfo) -> Any:
    """What came of it; raises the error that it failed with."""
    if operation["state"] == SUCCEEDED:
        return operation["result"]
    if operation["error"] is not None:
        raise error_from(operation["error"])
    hint = "see what became of it: appcat vm list"
    if operation["state"] == CANCELLED:
        raise Conflict(f"{operation['verb']} was cancelled", hint=hint, code="cancelled")
    raise AppcatError(f"{operation['verb']} was lost with the process that was at it", hint=hint, code="operation-lost")
