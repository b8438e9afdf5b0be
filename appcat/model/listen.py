"""Where the daemon listens besides its unix socket: ``HOST:PORT`` texts, and what is to be refused among them."""

from __future__ import annotations

from dataclasses import dataclass

from appcat.errors import InvalidInput
from appcat.model.port import LARGEST_PORT

LOOPBACK = "127.0.0.1"
HINT = "give an address of this host and a port, such as 127.0.0.1:8443, [::1]:8443 or :8443"


@dataclass(frozen=True)
class Listen:
    """An IP address of this host (``0.0.0.0`` and ``::`` for all) and a TCP port, 0 for any that is free."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this host can reach it."""
        from ipaddress import ip_address

        return ip_address(self.host).is_loopback

    @property
    def is_wildcard(self) -> bool:
        """Whether it stands for every address of this host."""
        from ipaddress import ip_address

        return ip_address(self.host).is_unspecified

    def __str__(self) -> str:
        return f"{bracketed(self.host)}:{self.port}"


def bracketed(host: str) -> str:
    """An address as URLs have it."""
    return f"[{host}]" if ":" in host else host


def parse_listen(text: str) -> Listen:
    """``[HOST]:PORT``; no host means loopback. Raises InvalidInput; names are refused, since they may change."""
    from ipaddress import ip_address

    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""
    if not (colon and port.isascii() and port.isdigit() and int(port) <= LARGEST_PORT):
        raise InvalidInput(f"{text!r} is not HOST:PORT", hint=HINT, code="invalid-address")
    try:
        address = ip_address({"": LOOPBACK, "localhost": LOOPBACK, "*": "0.0.0.0"}.get(host, host))
    except ValueError as error:
        raise InvalidInput(f"{host!r} is not an IP address", hint=HINT, code="invalid-address") from error
    return Listen(str(address), int(port))


def check_listen(listens: list[Listen], *, tls: bool) -> None:
    """Refuse what would send tokens readable through a network, or one address twice; raises InvalidInput."""
    for listen in listens:
        if not listen.is_loopback and not tls:
            raise InvalidInput(
                f"{listen} can be reached from elsewhere and would not be encrypted",
                hint="add --tls, or listen at 127.0.0.1",
                code="tls-required",
            )
    doubled = [listen for listen in listens if listens.count(listen) > 1 and listen.port]
    if doubled:
        raise InvalidInput(f"{doubled[0]} is given twice", hint="give each address once", code="invalid-address")
