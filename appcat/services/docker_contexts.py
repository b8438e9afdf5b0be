"""Contexts of the docker CLI: how it reaches Docker hosts. Written as it does itself, whether it is there or not.

The format is that of docker/cli's ``cli/context/store``: below ``$DOCKER_CONFIG/contexts`` a directory for each context
whose name is the SHA-256 of the context's, ``meta/DIGEST/meta.json`` and ``tls/DIGEST/docker/{ca,cert,key}.pem``.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from appcat.errors import AppcatError, Conflict, from_os_error
from appcat.model.docker import url_of
from appcat.model.vm import Vm
from appcat.services.context import Context
from appcat.store.files import make_private_directory, remove_tree, write_atomic

if TYPE_CHECKING:
    from appcat.services.certificates import Credentials

# In a context's metadata: the UUID of the vm that it is for, and the home that has it.
MARK = "AppcatVm"
HOME_MARK = "AppcatHome"
NOWHERE = Path("/nonexistent")

log = logging.getLogger(__name__)


def exists(vm: Vm) -> bool:
    """Whether there is a context for this very vm."""
    return _owner(vm.name) == vm.uuid


def check_free(ctx: Context, name: str) -> None:
    """Raise Conflict when a context called ``name`` is somebody else's than this home's."""
    if _meta(name).exists() and _mark(name, HOME_MARK) != str(ctx.layout.home):
        raise Conflict(
            f"there is a docker context {name} already",
            hint=f"choose another name, or: docker context rm {name}",
            code="docker-context-exists",
        )


def write(ctx: Context, vm: Vm, shown: Credentials) -> None:
    """The context for a vm; one that another vm of this name left behind is replaced.

    Raises Conflict (``check_free``), WrongState, Unavailable.
    """
    check_free(ctx, vm.name)
    certificates = _tls(vm.name) / "docker"
    metadata = {"Description": f"appcat vm {vm.name}", MARK: vm.uuid, HOME_MARK: str(ctx.layout.home)}
    endpoints = {"docker": {"Host": url_of(vm), "SkipTLSVerify": False}}
    text = json.dumps({"Name": vm.name, "Metadata": metadata, "Endpoints": endpoints})
    try:
        for directory in (certificates, _meta(vm.name).parent):
            make_private_directory(directory)
        write_atomic(certificates / "ca.pem", shown.authority, durable=False)
        write_atomic(certificates / "cert.pem", shown.own.certificate, durable=False)
        write_atomic(certificates / "key.pem", shown.own.key, durable=False)
        write_atomic(_meta(vm.name), text, durable=False)
    except OSError as error:
        raise from_os_error(error, "writing a docker context") from error


def follow(ctx: Context, before: Vm, vm: Vm) -> None:
    """Where there is a context for the vm as it was ``before``, make it one for the vm as it is; failing is no harm."""
    if not exists(before):
        return
    from appcat.services.certificates import credentials

    remove(before.name, before.uuid)
    try:
        write(ctx, vm, credentials(ctx))
    except AppcatError as error:
        log.warning("there is no docker context for %s any more: %s", vm.name, error)


def remove(name: str, uuid: str) -> bool:
    """Remove the context called ``name`` if it is for the vm with this UUID; whether it was. Failing is no harm."""
    if not uuid or _owner(name) != uuid:
        return False
    try:
        remove_tree(_meta(name).parent)
        remove_tree(_tls(name))
    except (AppcatError, OSError) as error:
        log.warning("the docker context %s stays: %s", name, error)
        return False
    return True


def _owner(name: str) -> str:
    """The UUID of the vm that the context ``name`` is for; nothing where it is somebody else's, or not there."""
    return _mark(name, MARK)


def _mark(name: str, key: str) -> str:
    try:
        data: Any = json.loads(_meta(name).read_bytes())
        return str(data["Metadata"].get(key, ""))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return ""


def _meta(name: str) -> Path:
    return _contexts() / "meta" / _digest(name) / "meta.json"


def _tls(name: str) -> Path:
    return _contexts() / "tls" / _digest(name)


def _contexts() -> Path:
    try:
        return Path(os.environ.get("DOCKER_CONFIG") or Path("~/.docker").expanduser()) / "contexts"
    except RuntimeError:  # a user without a home has no contexts
        return NOWHERE


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
