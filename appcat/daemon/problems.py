"""Errors on their way out: every one is the same JSON object, with the HTTP status that fits it."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from appcat import errors
from appcat.errors import AppcatError, from_os_error

log = logging.getLogger(__name__)

# By class, the nearest ancestor counts.
STATUSES: Mapping[type[AppcatError], int] = {
    errors.InvalidInput: 400,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.Stale: 412,
    errors.Broken: 409,
    errors.Unavailable: 503,
    errors.InsufficientSpace: 507,
    errors.CommandError: 502,
    errors.BuildError: 502,
    errors.QemuError: 502,
    errors.GuestError: 502,
    errors.DeadlineExceeded: 504,
    AppcatError: 500,
}
# By code, where that says more than the class.
STATUS_OF_CODE: Mapping[str, int] = {
    "unauthorized": 401,
    "foreign-host": 403,
    "foreign-origin": 403,
    "foreign-user": 403,
    "method-not-allowed": 405,
    "too-slow": 408,
    "too-large": 413,
    "wrong-content-type": 415,
    "too-many-attempts": 429,
    "headers-too-large": 431,
    "too-many-connections": 503,
}
SHOWN_FAULTS = 5


class Problem(BaseModel):
    """What every answer that is no success holds."""

    code: str = Field(description="Stays the same between versions: docs/errors.md lists them.")
    message: str = Field(description="What happened, in one line.")
    hint: str = Field(description="What to do about it, in one line; may be empty.")
    details: str = Field(description="What helps when one looks closer, such as the end of a log; may be empty.")
    exit_code: int = Field(description="The exit status with which the command line ends for the same error.")


def status_of(error: AppcatError) -> int:
    """The HTTP status for ``error``."""
    if error.code in STATUS_OF_CODE:
        return STATUS_OF_CODE[error.code]
    return next(STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES)


def encode(error: AppcatError) -> bytes:
    """The JSON object that tells ``error``."""
    keys = ("code", "message", "hint", "details", "exit_code")
    return json.dumps({key: getattr(error, key) for key in keys}, ensure_ascii=False).encode(errors="replace") + b"\n"


def headers_of(error: AppcatError) -> dict[str, str]:
    """What else is to be said to a program."""
    return {"WWW-Authenticate": 'Bearer realm="appcat"'} if error.code == "unauthorized" else {}


def respond(error: AppcatError, extra: Mapping[str, str] | None = None) -> Response:
    """The whole answer."""
    headers = {**headers_of(error), **(extra or {})}
    return Response(encode(error), status_of(error), headers, media_type="application/json")


def internal(error: BaseException) -> AppcatError:
    """What is said of a fault of ours; the traceback stays in the log."""
    return AppcatError(
        f"appcat has a fault: {type(error).__name__}",
        hint="please report it, with 'appcat doctor --bundle FILE' and what 'appcat daemon logs' prints",
        code="internal",
    )


def as_error(error: BaseException) -> AppcatError:
    """``error`` as one of ours; what nobody expected is logged with its traceback."""
    if isinstance(error, AppcatError):
        return error
    if isinstance(error, OSError):
        return from_os_error(error, "talking to the system")
    if isinstance(error, ClientDisconnect):
        return errors.InvalidInput("the body broke off", hint="send all of it")
    log.error("an internal error", exc_info=error)
    return internal(error)


def install(app: FastAPI) -> None:
    """Have ``app`` answer every error so."""
    app.add_exception_handler(AppcatError, _answer)
    app.add_exception_handler(OSError, _answer)
    app.add_exception_handler(RequestValidationError, _answer_validation)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_exception_handler(ClientDisconnect, _answer)
    app.add_exception_handler(Exception, _answer)


async def _answer(_request: Request, error: Exception) -> Response:
    return respond(as_error(error))


async def _answer_validation(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return respond(validation_error(error.errors()))


def validation_error(faults: Any) -> AppcatError:
    """What is wrong with a request, by field; the first fault leads, the others are details."""
    lines = [_fault(fault) for fault in faults]
    more = "\n".join(lines[1:SHOWN_FAULTS])
    return errors.InvalidInput(lines[0], hint="see /docs for what is expected", details=more)


def _fault(fault: Any) -> str:
    if fault.get("type") == "json_invalid":
        return f"the body is not JSON, at character {fault['loc'][-1]}"
    return f"{_field(fault['loc'])}: {_lowered(str(fault['msg']))}"


def _field(location: tuple[int | str, ...]) -> str:
    """``disks[0].size`` for ``("body", "disks", 0, "size")``."""
    text = ""
    for part in location[1:] if len(location) > 1 else location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return shown(text.removeprefix("."))  # of a field that nobody knows, the name is the sender's


def _lowered(text: str) -> str:
    text = " ".join(text.split()).rstrip(".")
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


async def _answer_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return respond(http_error(error, request.method, request.url.path), error.headers)


def http_error(error: HTTPException, method: str, path: str) -> AppcatError:
    """What the router, or the reading of a body, refuses."""
    if error.status_code == 404:
        return errors.NotFound(
            f"there is nothing at {shown(path)}", hint="see /docs for all paths", code="no-such-path"
        )
    if error.status_code == 405:
        return errors.InvalidInput(
            f"{method} is not for {shown(path)}", hint="see /docs for what is", code="method-not-allowed"
        )
    if error.status_code < 500:
        return errors.InvalidInput(_lowered(str(error.detail)), hint="see /docs for what is expected")
    return internal(error)


def shown(path: str, room: int = 80) -> str:
    """A path that somebody sent, in one line of bounded length."""
    text = path.encode("unicode_escape").decode()
    return text if len(text) <= room else f"{text[: room - 1]}…"
