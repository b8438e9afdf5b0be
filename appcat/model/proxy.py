"""Proxies as guests are told of them, and what of a proxy's URL nobody needs to see."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from appcat.errors import InvalidInput
from appcat.model.machine import USER_HOST
from appcat.model.name import shorten

NO_PROXY, AS_HOST = "none", "host"
SCHEMES = ("http", "https", "socks5", "socks5h")
HIDDEN = "***"
LONGEST = 1000

# What a URL may hold needs no quoting in a shell, save that what is strange has to be percent-encoded.
_USER = re.compile(r"[A-Za-z0-9._~%!*+,:=-]+", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", re.ASCII)
_DIRECT = re.compile(r"[A-Za-z0-9.*:/_\[\]-]+", re.ASCII)
_SEPARATORS = re.compile(r"[,\s]+")


@dataclass(frozen=True)
class Proxies:
    """What a guest is told: URLs, empty where there is none, and the hosts and subnets it reaches without them."""

    http: str = ""
    https: str = ""
    direct: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.http or self.https)


def parse_proxy(text: str) -> str:
    """A setting: ``none``, ``host``, or a URL for both http and https; raises InvalidInput."""
    if text in (NO_PROXY, AS_HOST):
        return text
    if "://" not in text:  # what hides passwords elsewhere knows URLs by that
        raise _invalid(text)
    return parse_proxy_url(text)


def parse_proxy_url(text: str) -> str:
    """The URL of a proxy, with the scheme that environments may leave out; raises InvalidInput, no password."""
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname or ""
    except ValueError as error:
        raise _invalid(text) from error
    user = parts.netloc.rpartition("@")[0]
    rest = parts.path.strip("/") or parts.query or parts.fragment
    good = parts.scheme in SCHEMES and not rest and port != 0 and _is_host(host) and (not user or _USER.fullmatch(user))
    if not good or ("@" in parts.netloc and not user) or len(url) > LONGEST:
        raise _invalid(text)
    return f"{parts.scheme}://{parts.netloc}"


def parse_direct(text: str) -> tuple[str, ...]:
    """A setting: what is reached without a proxy, with commas between; raises InvalidInput."""
    found = _split(text)
    for item in found:
        if not _DIRECT.fullmatch(item):
            raise InvalidInput(
                f"{shorten(item)} is neither a host nor a subnet",
                hint="write names, domains, addresses or subnets: registry.lan,.example.org,192.168.1.0/24",
            )
    return found


def proxies_of_host(environ: Mapping[str, str]) -> Proxies:
    """What ``http_proxy``, ``https_proxy`` and ``no_proxy`` say, in either case; raises InvalidInput.

    Of ``no_proxy`` what makes no sense is left out: other programs do not stumble over it either.
    """
    urls = {name: _url_in(environ, name) for name in ("http_proxy", "https_proxy")}
    direct = tuple(item for item in _split(_in(environ, "no_proxy")[1]) if _DIRECT.fullmatch(item))
    return Proxies(urls["http_proxy"], urls["https_proxy"], direct)


def as_guests_see(url: str) -> str:
    """``url`` with the address that the host's loopback has in a guest, where that is meant."""
    parts = urlsplit(url)
    if not url or not _is_loopback(parts.hostname or ""):
        return url
    user, at, _ = parts.netloc.rpartition("@")
    port = "" if parts.port is None else f":{parts.port}"
    return f"{parts.scheme}://{user}{at}{USER_HOST}{port}"


def distinct(*groups: Sequence[str]) -> tuple[str, ...]:
    """All of them in this order, each once."""
    return tuple(dict.fromkeys(item for group in groups for item in group))


def without_password(text: str) -> str:
    """``text``, perhaps the URL of a proxy, with its account hidden."""
    scheme, separator, rest = text.partition("://") if "://" in text else ("", "", text)
    account, at, place = rest.rpartition("@")
    return f"{scheme}{separator}{HIDDEN if account else ''}{at}{place}"


def _url_in(environ: Mapping[str, str], name: str) -> str:
    variable, given = _in(environ, name)
    if not given:
        return ""
    try:
        return parse_proxy_url(given)
    except InvalidInput as error:
        error.message = f"{variable} of the environment: {error.message}"
        raise


def _in(environ: Mapping[str, str], name: str) -> tuple[str, str]:
    """The variable's name as it is written there, and its value; programs look at the lower case first."""
    variable = name if environ.get(name) else name.upper()
    return variable, environ.get(variable, "").strip()


def _split(text: str) -> tuple[str, ...]:
    return tuple(item for item in _SEPARATORS.split(text) if item)


def _is_host(host: str) -> bool:
    return bool(_HOST.fullmatch(host)) or _address(host) is not None


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return host == "localhost" or host.endswith(".localhost") or (address is not None and address.is_loopback)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _invalid(text: str) -> InvalidInput:
    return InvalidInput(
        f"{shorten(without_password(text))} is not the URL of a proxy",
        hint=f"such as http://proxy.example.org:3128, {AS_HOST}, {NO_PROXY}; strange characters of a password as %XX",
        code="invalid-url",
    )
