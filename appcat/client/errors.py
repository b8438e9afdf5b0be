"""Errors that a daemon answers with, as the exceptions they are on the other side."""

from __future__ import annotations

from appcat.errors import AppcatError, from_parts


def error_from(body: object, status: int = 0) -> AppcatError:
    """The error that a daemon's answer tells of; of one that is none, what HTTP's ``status`` says."""
    if isinstance(body, dict) and isinstance(body.get("code"), str):
        return from_parts(body)
    return AppcatError(
        f"the daemon answered with HTTP status {status}", hint="is it an appcat daemon?", code="bad-answer"
    )
