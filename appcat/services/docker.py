"""``docker create``, ``list``, ``env``, ``delete``: vms that are Docker hosts, and how the docker CLI gets to them.

A Docker host is a vm whose template gives it a certificate and publishes the engine's port. Its door asks for a
certificate of the home's authority (``certificates``).
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import os
import ssl
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from appcat.errors import AppcatError, DeadlineExceeded, InvalidInput, WrongState
from appcat.guest import program
from appcat.model.docker import ENGINE_PORT, url_of
from appcat.model.image import Image
from appcat.model.status import Status
from appcat.model.vm import Vm
from appcat.services import docker_contexts, machines, templates
from appcat.services.certificates import AUTHORITY, CERTIFICATE, KEY, Credentials, credentials
from appcat.services.context import Context
from appcat.services.create import CreateRequest, template_of, with_defaults
from appcat.services.delete import delete
from appcat.services.observe import list_vms
from appcat.services.patience import READY_DEADLINE
from appcat.services.run import check_run, run
from appcat.services.start import console_tail
from appcat.store import locks

TEMPLATE = "docker"
AT_ONCE = 4
# Between two looks whether an engine answers, and how long one look may take, in seconds.
POLL = 0.05
LOOK = 10.0
ENGINE_HOOKS = "/etc/appcat/engine.d"
ENGINE_SECONDS = 110


@dataclass(frozen=True)
class DockerHost:
    """A vm with an engine. ``url`` is where that answers while the vm runs, ``context`` the docker CLI's name for it,
    or nothing.
    """

    name: str
    status: str
    url: str
    context: str
    seconds: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """What came of one host that was asked for."""

    name: str
    host: DockerHost | None = None
    error: AppcatError | None = None


@dataclass(frozen=True)
class _Way:
    """How hosts are made; ``ready_within`` in seconds."""

    cold: bool
    new_id: bool
    ready_within: float


def docker_create(
    ctx: Context,
    names: Sequence[str],
    like: CreateRequest,
    *,
    cold: bool = False,
    new_id: bool = False,
    ready_within: float = READY_DEADLINE,
) -> list[Outcome]:
    """Make Docker hosts, each as ``like`` says, with a docker context of its name; until their engines answer.

    They begin in the warm template's memory; ``cold``, each boots. A ``new_id`` for an engine, which otherwise has the
    warm template's, takes a restart of it. Raises, before anything is made, what ``run`` raises, Conflict for a context
    of the same name, InvalidInput for a template that is no Docker host. A host that fails is told by its outcome: it
    stays to be looked at, others go on.
    """
    like = with_defaults(ctx, dataclasses.replace(like, template=like.template or TEMPLATE))
    requests = [dataclasses.replace(like, name=name) for name in names]
    if len(set(names)) != len(names):
        raise InvalidInput("a name is given twice", hint="give each host a name of its own")
    for request in requests:
        check_run(ctx, request)
        docker_contexts.check_free(ctx, request.name)
    _check_template(templates.ensure(ctx, template_of(like)).image)
    shown, way = credentials(ctx), _Way(cold, new_id, ready_within)
    if len(requests) == 1:  # in this thread, where an interrupt arrives
        return [_create(ctx, requests[0], shown, way)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        futures = [pool.submit(_create, ctx, request, shown, way) for request in requests]
        try:
            return [future.result() for future in futures]
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _create(ctx: Context, request: CreateRequest, shown: Credentials, way: _Way) -> Outcome:
    begun = time.monotonic()
    try:
        vm = run(ctx, request, ready_within=way.ready_within, instant=not way.cold)
        url = url_of(vm)
        docker_contexts.write(ctx, vm, shown)
        if way.new_id:
            _renew(ctx, vm)
        _await_engine(ctx, vm, shown, begun + way.ready_within)
        return Outcome(vm.name, DockerHost(vm.name, Status.RUNNING, url, vm.name, time.monotonic() - begun))
    except AppcatError as error:
        return Outcome(request.name, error=error)


def docker_list(ctx: Context) -> list[DockerHost]:
    """All Docker hosts by name; raises nothing: what cannot be read is none."""
    hosts = []
    for seen in list_vms(ctx):
        if seen.vm and is_docker_host(ctx, seen.vm):
            url = url_of(seen.vm) if seen.status is not Status.STOPPED else ""
            context = seen.name if docker_contexts.exists(seen.vm) else ""
            hosts.append(DockerHost(seen.name, str(seen.status), url, context))
    return hosts


def docker_env(ctx: Context, name: str) -> Mapping[str, str]:
    """The environment in which the docker CLI, and what speaks to an engine as it does, is for this host.

    Raises NotFound, WrongState when the vm is no Docker host, Broken.
    """
    vm = find_host(ctx, name)
    return {
        "DOCKER_TLS_VERIFY": "1",
        "DOCKER_HOST": url_of(vm),
        "DOCKER_CERT_PATH": str(credentials(ctx).directory),
    }


def docker_delete(ctx: Context, name: str) -> None:
    """Delete a Docker host, running or not, and its context (``delete``); raises NotFound, Busy, WrongState."""
    find_host(ctx, name)
    delete(ctx, name, force=True)


def is_docker_host(ctx: Context, vm: Vm) -> bool:
    """Whether the vm's template is one of a Docker host, and the engine's port is still published."""
    with contextlib.suppress(AppcatError):
        stored = templates.image_of(ctx, vm.template.image)
        url_of(vm)
        return stored is not None and _is_host(stored.image)
    return False


def _is_host(image: Image) -> bool:
    return bool(image.certificate) and ENGINE_PORT in image.ports


def _check_template(image: Image) -> None:
    if not _is_host(image):
        raise InvalidInput(
            f"template {image.template} is no Docker host",
            hint=f"take {TEMPLATE}, or a template that is based on it",
            code="no-docker-template",
        )


def _renew(ctx: Context, vm: Vm) -> None:
    """Restart the engine with an id of its own; raises GuestError, DeadlineExceeded, Busy."""
    lines = [f"hooks {ENGINE_HOOKS} {ENGINE_SECONDS}"]
    with locks.hold(ctx.layout.vm(vm.name).agent_lock, "renew the engine", wait=LOOK, check=ctx.check):
        program.request(ctx.layout.runtime(vm.uuid).guest, lines, ENGINE_SECONDS + LOOK)


def find_host(ctx: Context, name: str) -> Vm:
    """The vm; raises NotFound, WrongState when it is no Docker host, Broken."""
    vm = ctx.store.load(name)
    if not _is_host(machines.image_of(ctx, vm).image):
        raise WrongState(f"{name} is no Docker host", hint="see 'appcat docker list'", code="not-a-docker-host")
    return vm


def _await_engine(ctx: Context, vm: Vm, shown: Credentials, deadline: float) -> None:
    """Until the engine answers this user's certificate with its own; raises DeadlineExceeded."""
    ctx.progress(f"waiting for the engine of {vm.name}", 0, 0)
    context = tls_context(shown.directory)
    while True:
        try:
            if ping(url_of(vm), context):
                return
            reason = "the engine does not answer"
        except OSError as error:
            reason = str(error)
        ctx.check()
        if time.monotonic() > deadline:
            raise DeadlineExceeded(
                f"the Docker engine of {vm.name} cannot be reached: {reason}",
                hint=f"appcat vm exec {vm.name} -- systemctl status docker docker-door",
                details=console_tail(ctx.layout.vm(vm.name).console_log),
                code="docker-not-ready",
            )
        time.sleep(POLL)


def tls_context(directory: Path) -> ssl.SSLContext:
    """What connects to engines with the credentials in ``directory``."""
    context = ssl.create_default_context(cafile=os.fspath(directory / AUTHORITY))
    context.load_cert_chain(directory / CERTIFICATE, directory / KEY)
    return context


def ping(url: str, context: ssl.SSLContext) -> bool:
    """Whether the engine at ``url`` says it is well (Docker's ``GET /_ping``); raises OSError if it is not reached."""
    address, _, port = url.removeprefix("tcp://").rpartition(":")
    connection = http.client.HTTPSConnection(address, int(port), timeout=LOOK, context=context)
    try:
        connection.request("GET", "/_ping")
        return connection.getresponse().status == http.HTTPStatus.OK
    except http.client.HTTPException:
        return False
    finally:
        connection.close()
