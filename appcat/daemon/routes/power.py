"""Whether vms run: what takes its time as operations, the rest at once."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from appcat.app import App
from appcat.daemon.answers import LONG_ERRORS, QEMU_ERRORS, Accepted, Changed, answer
from appcat.daemon.desk import AtDesk
from appcat.daemon.inputs import Name, Nothing, RestartBody, StartBody, StopBody, WaitBody
from appcat.errors import NotFound
from appcat.services.operations import Running
from appcat.services.wait import Until

router = APIRouter(prefix="/v1/vms/{name}", tags=["power"])


@router.post("/start", operation_id="start", status_code=202, response_model=Accepted, responses=LONG_ERRORS)
def start(name: Name, desk: AtDesk, body: StartBody | None = None) -> Response:
    """Start a vm, and wait for its guest unless told not to."""
    how = body or StartBody()
    desk.ctx.store.find(name)

    def work(app: App, running: Running) -> None:
        running.result({"changed": app.start(name, ready_within=how.ready_within, wait=how.wait)})

    return desk.begin("start", [name], work)


@router.post("/stop", operation_id="stop", status_code=202, response_model=Accepted, responses=LONG_ERRORS)
def stop(name: Name, desk: AtDesk, body: StopBody | None = None) -> Response:
    """Ask the guest to power off, and wait for it."""
    how = body or StopBody()
    desk.ctx.store.find(name)

    def work(app: App, running: Running) -> None:
        running.result({"changed": app.stop(name, timeout=how.timeout)})

    return desk.begin("stop", [name], work)


@router.post("/restart", operation_id="restart", status_code=202, response_model=Accepted, responses=LONG_ERRORS)
def restart(name: Name, desk: AtDesk, body: RestartBody | None = None) -> Response:
    """Stop a vm and start it."""
    how = body or RestartBody()
    desk.ctx.store.find(name)

    def work(app: App, running: Running) -> None:
        changed = app.restart(name, force=how.force, timeout=how.timeout, wait=how.wait)
        running.result({"changed": changed})

    return desk.begin("restart", [name], work)


@router.post("/pause", operation_id="pause", response_model=Changed, responses=QEMU_ERRORS)
def pause(name: Name, desk: AtDesk, _: Nothing | None = None) -> Response:
    """Halt the processors of a vm; its memory stays."""
    return answer({"changed": desk.app.pause(name)})


@router.post("/unpause", operation_id="unpause", response_model=Changed, responses=QEMU_ERRORS)
def unpause(name: Name, desk: AtDesk, _: Nothing | None = None) -> Response:
    """Let a paused vm go on."""
    return answer({"changed": desk.app.unpause(name)})


@router.post("/kill", operation_id="kill", response_model=Changed, responses=QEMU_ERRORS)
def kill(name: Name, desk: AtDesk, _: Nothing | None = None) -> Response:
    """End a vm's QEMU at once, as by cutting its power."""
    return answer({"changed": desk.app.kill(name)})


@router.post("/wait", operation_id="wait", status_code=202, response_model=Accepted, responses=LONG_ERRORS)
def wait(name: Name, body: WaitBody, desk: AtDesk) -> Response:
    """Wait until a vm is in a state."""
    until = Until(body.until)
    try:
        desk.ctx.store.find(name)
    except NotFound:
        if until is not Until.DELETED:
            raise

    def work(app: App, _running: Running) -> None:
        app.wait(name, until, body.timeout)

    return desk.begin("wait", [name], work, waits=True)
