"""Another appcat: where its daemon is reached, and what proves who is who."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit

from appcat.errors import InvalidInput
from appcat.model.name import shorten

SCHEMA = 1
LOCAL = "local"
HTTPS_PORT, HTTP_PORT = 443, 80
FORMS = "unix:///PATH, https://HOST:PORT, ssh://USER@HOST or, on this computer, http://127.0.0.1:PORT"

_FINGERPRINT = re.compile(r"[0-9a-f]{64}", re.ASCII)
# What ssh is given as an argument; nothing that it would take for an option, or a shell for more than a word.
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?", re.ASCII)
_TOKEN = re.compile(r"[\x21-\x7e]+", re.ASCII)


@dataclass(frozen=True)
class Address:
    """A URL, taken apart. Of ``unix`` only ``path`` is set (empty: this user's own daemon); ``port`` 0 is ssh's own."""

    scheme: str
    host: str = ""
    port: int = 0
    user: str = ""
    path: str = ""

    @property
    def authority(self) -> str:
        """Host and port as the ``Host`` header says them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}" if self.port else host


@dataclass(frozen=True)
class Remote:
    """A daemon: its URL, the token that opens it (or the file with it), and how its certificate is known.

    ``fingerprint`` is the SHA-256 of the certificate in hex, ``ca_file`` the authorities to trust; neither means the
    system's authorities.
    """

    url: str
    token: str = field(default="", repr=False)
    token_file: str = ""
    fingerprint: str = ""
    ca_file: str = ""


@dataclass(frozen=True)
class Contexts:
    """What ``contexts.json`` holds: remotes by name, and which of them is used when nothing else is said."""

    current: str = LOCAL
    remotes: dict[str, Remote] = field(default_factory=dict)


def parse_url(text: str) -> Address:
    """The address that a URL names; raises InvalidInput."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise _not_a_url(text, str(error)) from error
    if any(ord(character) <= 32 for character in text) or parts.query or parts.fragment:
        raise _not_a_url(text, "it has parts that no daemon's URL has")
    if parts.scheme == "unix":
        return _unix(text, parts)
    if parts.scheme not in ("https", "http", "ssh"):
        raise _not_a_url(text, f"{shorten(parts.scheme)} is not a way to a daemon" if parts.scheme else "")
    if not parts.hostname or parts.path not in ("", "/"):
        raise _not_a_url(text, "it names no host" if not parts.hostname else "it has a path")
    return _network(text, parts, port)


def _unix(text: str, parts: SplitResult) -> Address:
    if parts.netloc or (parts.path and not parts.path.startswith("/")):
        raise _not_a_url(text, "the path of a socket begins with a slash: unix:///PATH")
    return Address("unix", path=unquote(parts.path))


def _network(text: str, parts: SplitResult, port: int | None) -> Address:
    host = parts.hostname or ""
    if parts.password is not None or (parts.username is not None and parts.scheme != "ssh"):
        raise _not_a_url(text, "a URL is no place for secrets: use a token file")
    if not (_HOST.fullmatch(host) or _is_address(host)) or (parts.username and not _USER.fullmatch(parts.username)):
        raise _not_a_url(text, "")
    if parts.scheme == "http" and not is_loopback(host):
        raise InvalidInput(
            f"{shorten(text)} would send everything in the clear",
            hint=f"use https://{host} or ssh://{host}; http:// is for this computer only",
            code="invalid-url",
        )
    default = {"https": HTTPS_PORT, "http": HTTP_PORT, "ssh": 0}[parts.scheme]
    return Address(parts.scheme, host, default if port is None else port, parts.username or "")


def is_loopback(host: str) -> bool:
    """Whether a name or address is this computer's own, whatever any name server says."""
    return host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _not_a_url(text: str, why: str) -> InvalidInput:
    reason = f": {why}" if why else ""
    return InvalidInput(f"{shorten(text)} is not a daemon's URL{reason}", hint=f"write {FORMS}", code="invalid-url")


def parse_fingerprint(text: str) -> str:
    """64 hex digits, from what ``appcat daemon status`` and openssl print; raises InvalidInput."""
    digits = text.strip().lower().removeprefix("sha256:").removeprefix("sha256 fingerprint=").replace(":", "")
    if _FINGERPRINT.fullmatch(digits):
        return digits
    raise InvalidInput(
        f"{shorten(text)} is not a certificate's fingerprint",
        hint="give the SHA-256 in hex, as 'appcat daemon status' prints it on the daemon's computer",
        code="invalid-fingerprint",
    )


def check_token(text: str) -> str:
    """Return a token when a header can carry it; raises InvalidInput, which does not show it."""
    if _TOKEN.fullmatch(text):
        return text
    raise InvalidInput(
        "the token is empty or has characters that no token has", hint="copy it again, without spaces or line breaks"
    )
