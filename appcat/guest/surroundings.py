"""What lies around a guest, in its own words: the proxy on the way out, the authorities it trusts.

Login shells and ``appcat vm exec`` read the script of variables, services that look there ``/etc/environment``. What a
guest makes of certificates is its template's: executables in ``/etc/appcat/ca.d`` are run when they have changed.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from appcat.guest.identity import HOST_NAME_INSIDE, file_statement, section_statement
from appcat.guest.remote import PROXY_SCRIPT
from appcat.model.network import DOMAIN
from appcat.model.proxy import Proxies, as_guests_see, distinct

ENVIRONMENT = "/etc/environment"
AUTHORITIES = "/usr/local/share/ca-certificates/appcat.crt"
AUTHORITY_HOOKS = "/etc/appcat/ca.d"
HOOK_SECONDS = 20
NO_PROXIES = Proxies()
ALWAYS_DIRECT = ("localhost", "127.0.0.1", "::1", HOST_NAME_INSIDE, f".{DOMAIN}")


@dataclass(frozen=True)
class Surroundings:
    """``proxies`` as the host sees them, ``subnets`` of the guest's networks, ``authorities`` in PEM; each may be
    nothing. ``had_authorities``: the guest may still have some.
    """

    proxies: Proxies = NO_PROXIES
    subnets: tuple[str, ...] = ()
    authorities: bytes = b""
    had_authorities: bool = False


def variables(surroundings: Surroundings) -> dict[str, str]:
    """The environment of commands in the guest, in both cases since programs look for either; empty without a proxy."""
    proxies = surroundings.proxies
    if not proxies:
        return {}
    direct = distinct(ALWAYS_DIRECT, surroundings.subnets, proxies.direct)
    found = {"http_proxy": as_guests_see(proxies.http), "https_proxy": as_guests_see(proxies.https)}
    found["no_proxy"] = ",".join(direct)
    given = {name: value for name, value in found.items() if value}
    return {**given, **{name.upper(): value for name, value in given.items()}}


def proxy_statements(surroundings: Surroundings) -> list[str]:
    """Both files, or what was ours in them taken away."""
    found = variables(surroundings)
    script = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in found.items())
    environment = "".join(f"{name}={value}\n" for name, value in found.items())
    return [section_statement(0o644, PROXY_SCRIPT, script), section_statement(0o644, ENVIRONMENT, environment)]


def authority_statements(surroundings: Surroundings) -> list[str]:
    """The certificates, to come last: what the template does with them takes its time, and may fail."""
    if not surroundings.authorities and not surroundings.had_authorities:
        return []
    return [
        file_statement(0o644, AUTHORITIES, surroundings.authorities).rstrip(),
        f"hooks {AUTHORITY_HOOKS} {HOOK_SECONDS}",
    ]


def has_authorities(document: str) -> bool:
    """Whether a guest that was told this document got certificates."""
    return any(line.startswith(file_statement(0o644, AUTHORITIES, b"")) for line in document.splitlines())
