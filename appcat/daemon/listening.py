"""uvicorn's server with several doors in one loop, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from uvicorn import Config, Server

from appcat.daemon.connection import HEAD_LIMIT, KEEP_ALIVE, Connection
from appcat.daemon.door import BACKLOG, Door, Peer

HANDSHAKE_DEADLINE = 10.0
LARGEST_MESSAGE = 1 << 20
CHECK_EVERY = 2.0


class Listening(Server):
    """Serves ``doors`` until it is told to end, or ``still_wanted`` says no.

    ``is_welcome`` is asked now and then of everybody who has a connection: with a token that was removed, streams end
    as well. ``closing`` is called first of all when it ends, to have endless streams end.
    """

    def __init__(
        self,
        doors: Sequence[Door],
        *,
        grace: float,
        still_wanted: Callable[[], bool],
        is_welcome: Callable[[Peer], bool],
        started: Callable[[], None],
        closing: Callable[[], None],
        lifespan: Any,
    ) -> None:
        super().__init__(
            Config(
                lifespan,
                http=Connection,
                ws="websockets-sansio",
                ws_per_message_deflate=False,
                ws_max_size=LARGEST_MESSAGE,
                ws_ping_interval=None,  # who is made to wait by its own reader answers no ping
                lifespan="on",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE,
                timeout_graceful_shutdown=max(int(grace), 1),
                h11_max_incomplete_event_size=HEAD_LIMIT,
            )
        )
        self.doors = doors
        self.still_wanted = still_wanted
        self.is_welcome = is_welcome
        self.when_started = started
        self.when_closing = closing
        self._checked = time.monotonic()

    async def startup(self, sockets: Any = None) -> None:
        """Begin to serve."""
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            raise RuntimeError("the application did not start")
        loop = asyncio.get_running_loop()
        self.servers = []
        for door in self.doors:
            make = functools.partial(Connection, self.config, self.server_state, self.lifespan.state, door)
            handshake = HANDSHAKE_DEADLINE if door.ssl else None
            self.servers.append(
                await loop.create_server(
                    make, sock=door.socket, ssl=door.ssl, backlog=BACKLOG, ssl_handshake_timeout=handshake
                )
            )
        self.started = True
        self.when_started()

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second; True ends it."""
        if time.monotonic() - self._checked > CHECK_EVERY:
            self._checked = time.monotonic()
            self._send_away()
            if not self.still_wanted():
                self.should_exit = True
        return await super().on_tick(counter)

    def _send_away(self) -> None:
        for connection in list(self.server_state.connections):
            peer: Peer | None = getattr(connection, "peer", None)
            if peer is not None and peer.token is not None and not self.is_welcome(peer):
                peer.abort()

    async def shutdown(self, sockets: Any = None) -> None:
        """End: no new connections, streams closed, the rest finished or cut off when its grace is over."""
        self.when_closing()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT end it in order; a second SIGINT at once."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
