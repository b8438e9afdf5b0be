"""A TCP connection into a guest behind a daemon."""

from __future__ import annotations

import socket

from appcat.client.http import Http, path
from appcat.client.line import bridge
from appcat.client.websocket import open_websocket
from appcat.model.port import check_port_number


def tunnel(http: Http, name: str, port: int) -> socket.socket:
    """A connection to ``port`` of the guest's own loopback address; raises as ``services.tunnel``, and Unavailable."""
    websocket, early = open_websocket(http, path("vms", name, "tunnel"), {"port": check_port_number(port)})
    ours, _ = bridge(websocket, early, lambda _told: None)
    return ours
