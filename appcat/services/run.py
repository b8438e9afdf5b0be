"""``run``: create, start, wait, and run a command, in one go."""

from __future__ import annotations

from appcat.model.vm import Vm
from appcat.services.admission import check_memory, check_port
from appcat.services.context import Context
from appcat.services.create import CreateRequest, check_request, create
from appcat.services.start import READY_DEADLINE, start


def run(ctx: Context, request: CreateRequest, *, ready_within: float = READY_DEADLINE) -> Vm:
    """Create a vm and bring it to where its guest agent answers.

    What would keep it from starting (memory, ports) is refused before it is created. Raises what ``create`` and
    ``start`` raise; a vm whose start fails stays, powered off or as it is, to be looked at.
    """
    check_request(ctx, request)
    if request.memory is not None:
        check_memory(ctx, request.memory)
    for forward in request.ports:
        check_port(ctx, request.name, forward)
    create(ctx, request)
    return start(ctx, request.name, ready_within=ready_within).vm
