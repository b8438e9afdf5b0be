"""Cards of vms without the vms: what QEMU would do with a port, done by the test itself."""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Sequence

from appcat.model.machine import HubPort, TapPort
from appcat.store.layout import Layout
from appcat.switch import client

EVERYBODY = b"\xff" * 6
PATIENCE = 10.0
SOON = 0.3  # seconds in which a frame that must not come would have come
_VNET_HEADER = 10
_KIND = b"\x88\xb5"  # an EtherType for experiments


class Card:
    """A card with a MAC address of its own, behind a port; sends and takes frames with a short text in them."""

    def __init__(self, port: client.Port, number: int) -> None:
        self.mac = bytes((2, 0, 0, 0, 0, number))
        self.port = port
        if isinstance(port.wiring, HubPort):
            self.door = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            port.wiring.local.unlink(missing_ok=True)
            self.door.bind(str(port.wiring.local))
            self.descriptor = self.door.fileno()
        else:
            self.descriptor = port.wiring.descriptor
        os.set_blocking(self.descriptor, False)

    def send(self, text: str, to: bytes = EVERYBODY, sender: bytes = b"", size: int = 60) -> None:
        """Send a frame, waiting while the switch takes none; one that nobody takes is lost."""
        self.send_raw((to + (sender or self.mac) + _KIND + text.encode()).ljust(size, b"\0"))

    def send_raw(self, frame: bytes) -> None:
        """Send these bytes."""
        while not self.try_to_send(frame):
            assert select.select([], [self.descriptor], [], PATIENCE)[1], "the switch takes nothing"

    def try_to_send(self, frame: bytes) -> bool:
        """Send these bytes, unless that has to wait."""
        try:
            if isinstance(self.port.wiring, TapPort):
                os.write(self.descriptor, b"\0" * _VNET_HEADER + frame)
            else:
                self.door.sendto(frame, str(self.port.wiring.hub))
        except BlockingIOError:
            return False
        except OSError:
            pass  # down, or there is no hub: as QEMU does, the frame is dropped
        return True

    def next(self, within: float = PATIENCE) -> str:
        """The text of the next frame from another card of these tests; empty when none comes in time."""
        deadline = time.monotonic() + within
        while (left := deadline - time.monotonic()) > 0 and select.select([self.descriptor], [], [], left)[0]:
            frame = os.read(self.descriptor, 1 << 17)
            if isinstance(self.port.wiring, TapPort):
                frame = frame[_VNET_HEADER:]
            if frame[12:14] == _KIND:
                return frame[14:].rstrip(b"\0").decode()
        return ""

    def all(self) -> list[str]:
        """The texts of all frames that come until none comes for a while."""
        texts = []
        while text := self.next(SOON):
            texts.append(text)
        return texts

    def close(self) -> None:
        """As when QEMU ends."""
        if isinstance(self.port.wiring, HubPort):
            self.door.close()
        self.port.close()


def opened(layout: Layout, *names: str) -> list[Card]:
    """Cards at new ports; give other numbers in ``names`` to other cards, as these are their MACs: ``NAME-NUMBER``."""
    ports = client.open_ports(layout, names)
    return [Card(port, int(name[-1])) for port, name in zip(ports, names, strict=True)]


def connected(layout: Layout, network: str, *names: str) -> list[Card]:
    """Cards on a network."""
    cards = opened(layout, *names)
    client.connect(layout, [(name, network) for name in names])
    return cards


def close(cards: Sequence[Card]) -> None:
    """All of them."""
    for card in cards:
        card.close()
