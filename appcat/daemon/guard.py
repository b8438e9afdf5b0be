"""The guard at TCP doors: bearer tokens, and patience with those who try wrong ones."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field

from starlette.datastructures import Headers

from appcat.daemon.door import Peer
from appcat.errors import AppcatError
from appcat.services import tokens
from appcat.services.context import Context, now
from appcat.services.tokens import Token

log = logging.getLogger(__name__)

FREE_ATTEMPTS = 5
FIRST_DELAY, LONGEST_DELAY = 0.1, 3.0
FORGET_AFTER = 60.0
MOST_WAITING = 50
MOST_REMEMBERED = 1000


@dataclass
class Attempts:
    """Wrong tokens of one address in a row, and when the last was (monotonic seconds)."""

    count: int = 0
    last: float = 0.0


@dataclass
class Guard:
    """Knows the tokens as the file has them at this moment."""

    ctx: Context
    _known: tuple[Token, ...] = ()
    _mark: tuple[int, int, int] | None = None
    _attempts: dict[str, Attempts] = field(default_factory=dict)
    _waiting: int = 0

    async def check(self, peer: Peer, headers: Headers) -> None:
        """Note in ``peer`` whose token this is; raises AppcatError for no, a wrong or an expired one.

        A right token is never slowed down by others' wrong ones.
        """
        peer.token = peer.secret = None  # an earlier request may have shown one
        given = headers.getlist("authorization")
        scheme, _, secret = (given[0] if len(given) == 1 else "").partition(" ")
        found = self.find(secret.strip()) if scheme.lower() == "bearer" else None
        if found is not None:
            peer.token, peer.secret = found.name, found.sha256
            return
        if given:
            await self._slow_down(peer)
        raise AppcatError(
            "this token is not valid (any more)" if given else "a token is needed here",
            hint="send 'Authorization: Bearer SECRET'; 'appcat daemon token add NAME' makes one",
            code="unauthorized",
        )

    def find(self, secret: str) -> Token | None:
        """The valid token with this secret."""
        return tokens.find(self.known(), secret, now())

    def is_welcome(self, peer: Peer) -> bool:
        """Whether the token that ``peer`` came in with is still valid."""
        at = now()
        return any(token.sha256 == peer.secret and not token.is_expired(at) for token in self.known())

    def known(self) -> tuple[Token, ...]:
        """All tokens; read again when the file is another. A file that cannot be read lets nobody in."""
        try:
            found = self.ctx.layout.tokens.stat()
            mark = (found.st_ino, found.st_mtime_ns, found.st_size)
        except OSError:
            mark = None
        if mark is None or mark != self._mark:
            self._mark = mark
            try:
                self._known = tokens.tokens(self.ctx)
            except AppcatError as error:
                log.error("%s", error)
                self._known = ()
        return self._known

    async def _slow_down(self, peer: Peer) -> None:
        """Wait, the longer the more wrong tokens came from there; too many who wait are sent away at once."""
        host = peer.address.rpartition(":")[0]
        at = time.monotonic()
        tried = self._attempts.get(host)
        if tried is None or at - tried.last > FORGET_AFTER:
            if len(self._attempts) >= MOST_REMEMBERED:
                self._attempts.clear()
            tried = self._attempts[host] = Attempts()
        tried.count, tried.last = tried.count + 1, at
        pause = delay(tried.count)
        if not pause:
            return
        if self._waiting >= MOST_WAITING:
            raise AppcatError("too many wrong tokens", hint="wait a minute", code="too-many-attempts")
        self._waiting += 1
        try:
            await asyncio.sleep(pause)
        finally:
            self._waiting -= 1


def delay(count: int) -> float:
    """Seconds that the answer to wrong token number ``count`` in a row waits."""
    if count <= FREE_ATTEMPTS:
        return 0.0
    return float(min(FIRST_DELAY * 2.0 ** min(count - FREE_ATTEMPTS, 10), LONGEST_DELAY))
