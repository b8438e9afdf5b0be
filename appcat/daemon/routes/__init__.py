"""The routes of ``/v1``, one module per resource."""

from __future__ import annotations

from fastapi import APIRouter

from appcat.daemon.routes import (
    clones,
    config,
    console,
    disks,
    doctor,
    events,
    execute,
    files,
    health,
    logs,
    networks,
    operations,
    ports,
    power,
    ssh,
    stats,
    templates,
    tunnel,
    vms,
)

_MODULES = (
    vms,
    power,
    clones,
    ports,
    disks,
    networks,
    execute,
    console,
    files,
    logs,
    ssh,
    tunnel,
    stats,
    templates,
    config,
    doctor,
    operations,
    events,
    health,
)

ROUTERS: list[APIRouter] = [module.router for module in _MODULES]
