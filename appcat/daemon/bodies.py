"""What bodies a request may have: JSON, small and soon, unless a route takes something else.

JSON is read whole before any handler sees it, so that a slow or endless one costs no thread. What a route takes as a
stream comes in pieces; it may be large, but each piece must come in time.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from starlette.routing import compile_path

MIB = 1 << 20
TAR, BYTES, JSON_TYPE = "application/x-tar", "application/octet-stream", "application/json"


@dataclass(frozen=True)
class Body:
    """A kind of body: media types, bytes at most, seconds between pieces and in all (None: as long as they come)."""

    types: frozenset[str]
    limit: int
    idle: float = 30.0
    total: float | None = None
    streamed: bool = False


JSON = Body(frozenset({JSON_TYPE}), MIB, idle=30.0, total=60.0)


@dataclass
class Bodies:
    """Which routes take what; all others take ``JSON``."""

    default: Body = JSON
    _declared: list[tuple[str, object, Body]] = field(default_factory=list)

    def declare(self, method: str, path: str, *types: str, limit: int = 1 << 40, idle: float = 60.0) -> None:
        """Have ``method`` on ``path`` (as routes spell it, ``/v1/vms/{name}/files``) take a stream of ``types``."""
        pattern, _, _ = compile_path(path)
        self._declared.append((method, pattern, Body(frozenset(types), limit, idle, streamed=True)))

    def of(self, method: str, path: str) -> Body:
        """What a request may carry."""
        for declared, pattern, body in self._declared:
            if declared == method and pattern.match(path):  # type: ignore[attr-defined]
                return body
        return self.default


# The routes' own: a route module calls ``BODIES.declare`` beside the route.
BODIES = Bodies()
