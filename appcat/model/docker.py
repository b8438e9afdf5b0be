"""Where the engine of a Docker host is."""

from __future__ import annotations

from appcat.errors import WrongState
from appcat.model.port import own_forward
from appcat.model.vm import Vm

# The port that the IANA assigned to "docker-s": the engine's API over TLS.
ENGINE_PORT = 2376


def url_of(vm: Vm) -> str:
    """Where the engine of a vm answers, as the docker CLI writes it; WrongState when its port is not published."""
    for port in vm.ports:
        if port.same(own_forward(ENGINE_PORT)):
            place = port.places(vm.address)[0]
            return f"tcp://{place.address}:{place.host}"
    raise WrongState(
        f"the Docker port of {vm.name} is not published",
        hint=f"appcat vm port add {vm.name} {ENGINE_PORT}",
        code="not-a-docker-host",
    )
