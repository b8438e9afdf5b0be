"""What lies around a guest, as the home says: its settings ``proxy``, ``no-proxy`` and ``ca-certificates``."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from appcat.guest.authorities import read_authorities
from appcat.guest.surroundings import NO_PROXIES, Surroundings, authority_statements, has_authorities, proxy_statements
from appcat.model.config import parse_file
from appcat.model.proxy import AS_HOST, NO_PROXY, Proxies, distinct, parse_direct, parse_proxy, proxies_of_host
from appcat.model.vm import Vm
from appcat.services import config
from appcat.services.addresses import internet_of, network_of
from appcat.services.context import Context


def surrounded(ctx: Context, vm: Vm, statements: Sequence[str]) -> list[str]:
    """The statements that make a guest itself, between those that tell it of what lies around; raises as below.

    The template's part comes last: by then the guest can be reached, whatever becomes of it.
    """
    around = surroundings_of(ctx, vm)
    return [*proxy_statements(around), *statements, *authority_statements(around)]


def surroundings_of(ctx: Context, vm: Vm) -> Surroundings:
    """What ``vm`` is to be told now; raises InvalidInput where a setting makes no sense, NotFound and
    Broken for a network. One without a way out is told of no proxy, which it could not reach.
    """
    authorities = config.value_of(ctx, "ca-certificates", _authorities, b"")
    return Surroundings(
        proxies=_proxies(ctx) if internet_of(ctx, vm) else NO_PROXIES,
        subnets=tuple(network_of(ctx, place).subnet for place in vm.networks),
        authorities=authorities,
        had_authorities=not authorities and _had_authorities(ctx, vm),
    )


def _proxies(ctx: Context) -> Proxies:
    setting = config.value_of(ctx, "proxy", parse_proxy, NO_PROXY)
    if setting == NO_PROXY:
        return NO_PROXIES
    proxies = proxies_of_host(os.environ) if setting == AS_HOST else Proxies(setting, setting)
    direct: tuple[str, ...] = config.value_of(ctx, "no-proxy", parse_direct, parse_direct(""))
    return dataclasses.replace(proxies, direct=distinct(direct, proxies.direct))


def _authorities(text: str) -> bytes:
    return read_authorities(parse_file(text))


def _had_authorities(ctx: Context, vm: Vm) -> bool:
    """Whether its last start brought some; what cannot be read was not brought."""
    try:
        return has_authorities(Path(ctx.layout.vm(vm.name).identity).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return False
