from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from appcat.client.errors import error_from
from appcat.client.http import Http, path, url_query
from appcat.client.operations import follow
from appcat.client.transport import UnixDialer
from appcat.errors import (
    AppcatError,
    Busy,
    Conflict,
    DeadlineExceeded,
    GuestError,
    InsufficientMemory,
    InvalidInput,
    NotFound,
    Unavailable,
)
from appcat.services.context import silent
from tests.unit.support.daemons import Answer, Asked, FakeDaemon, http_daemon


def answer(asked: Asked) -> Answer:
    """What the tests' paths stand for."""
    match asked.path.partition("?")[0]:
        case "/v1/missing":
            return 404, {"code": "vm-not-found", "message": "there is no vm 'x'", "hint": "y?", "exit_code": 3}
        case "/v1/text":
            return 200, b"not json"
        case "/v1/html":
            return 502, b"<html>"
        case "/v1/other":
            return 404, b"nothing here"
        case "/v1/newer":
            return 404, {"code": "no-such-path", "message": "there is nothing at /v1/newer", "exit_code": 3}
        case _:
            return 200, {"path": asked.path, "body": asked.body}


@pytest.fixture
def daemon(short: Path) -> Iterator[FakeDaemon]:
    with http_daemon(short / "d", answer) as daemon:
        yield daemon


@pytest.fixture
def http(short: Path) -> Iterator[Http]:
    client = Http(UnixDialer("unix://", short / "d"), "secret")
    yield client
    client.close()


def test_what_is_asked_and_answered(http: Http, daemon: FakeDaemon) -> None:
    assert http.call("POST", path("vms"), body={"a": 1}) == {"path": "/v1/vms", "body": {"a": 1}}
    asked = daemon.asked[0]
    assert asked.headers["Host"] == "localhost"
    assert asked.headers["Authorization"] == "Bearer secret"
    assert "Origin" not in asked.headers


def test_names_stay_one_part_of_a_path(http: Http, daemon: FakeDaemon) -> None:
    assert path("vms", "../x?y#z") == "/v1/vms/..%2Fx%3Fy%23z"
    http.call("GET", path("config", "a/b"), query={"x": ["1", "2"], "y": None, "z": True})
    assert daemon.asked[0].path == "/v1/config/a%2Fb?x=1&x=2&z=true"
    assert url_query({"port": 22}) == "?port=22"
    assert url_query({}) == ""


def test_one_connection_serves_many_requests(http: Http, daemon: FakeDaemon) -> None:
    for _ in range(3):
        http.call("GET", path("vms"))
    assert len(daemon.asked) == 3


# --- errors


def test_an_error_is_the_exception_it_was_there(http: Http, daemon: FakeDaemon) -> None:
    with pytest.raises(NotFound) as caught:
        http.call("GET", path("missing"))
    assert (caught.value.code, caught.value.message, caught.value.hint) == ("vm-not-found", "there is no vm 'x'", "y?")


@pytest.mark.parametrize("where", ["text", "html", "other", "newer"])
def test_an_answer_of_something_else_is_told_as_such(http: Http, daemon: FakeDaemon, where: str) -> None:
    with pytest.raises(AppcatError) as caught:
        http.call("GET", path(where))
    assert caught.value.code == "bad-answer"


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("busy", 4, Busy),
        ("vm-running", 4, Conflict),
        ("no-memory", 6, InsufficientMemory),
        ("deadline-exceeded", 9, DeadlineExceeded),
        ("verify-failed", 9, GuestError),
        ("usage", 2, InvalidInput),
        ("new-in-the-daemon", 1, AppcatError),
        ("new-in-the-daemon", 77, AppcatError),
    ],
)
def test_codes_and_exit_statuses_say_which_class(code: str, status: int, kind: type[AppcatError]) -> None:
    error = error_from({"code": code, "message": "m", "hint": "h", "details": "d", "exit_code": status})
    assert type(error) is kind
    assert (error.code, error.exit_code, error.message, error.hint, error.details) == (code, status, "m", "h", "d")


@pytest.mark.parametrize("body", [None, [], {}, {"code": 1}, {"detail": "Not Found"}])
def test_a_body_that_is_no_error_is_one_all_the_same(body: object) -> None:
    assert "503" in error_from(body, 503).message


# --- nobody there


def test_no_daemon_is_told_with_what_to_do(http: Http, short: Path) -> None:
    with pytest.raises(Unavailable) as caught:
        http.call("GET", path("vms"))
    assert (caught.value.code, caught.value.hint) == ("no-daemon", "appcat daemon start")


def test_a_look_is_tried_twice(http: Http, daemon: FakeDaemon) -> None:
    daemon.drop = {2}
    http.call("GET", path("vms"))
    assert http.call("GET", path("vms"))["path"] == "/v1/vms"
    assert len(daemon.asked) == 3


def test_a_change_is_not(http: Http, daemon: FakeDaemon) -> None:
    daemon.drop = {1}
    with pytest.raises(Unavailable) as caught:
        http.call("POST", path("vms"), body={})
    assert caught.value.code == "unreachable"
    assert len(daemon.asked) == 1


# --- operations


def operation(state: str, **more: object) -> dict[str, object]:
    nothing: dict[str, object] = {"step": "", "done": 0, "total": 0, "error": None, "result": None}
    return {"id": "1", "verb": "start", "state": state, **nothing, **more}


def serving(*operations: dict[str, object]) -> tuple[list[str], object]:
    """Answers with one after the other, the first to whoever begins it; and the paths that were asked for."""
    paths: list[str] = []
    left = list(operations)

    def answering(asked: Asked) -> Answer:
        paths.append(f"{asked.method} {asked.path}")
        if asked.path.endswith("/cancel"):
            return 200, operations[0]
        found = left.pop(0)
        return (202, {"operation": found}) if asked.method == "POST" else (200, found)

    return paths, answering


def test_an_operation_is_followed_to_its_result(http: Http, short: Path) -> None:
    told: list[tuple[str, int, int]] = []
    paths, answering = serving(
        operation("running"),
        operation("running", step="booting", done=1, total=3),
        operation("succeeded", result={"changed": True}),
    )
    with http_daemon(short / "d", answering):  # type: ignore[arg-type]
        result = follow(http, lambda *step: told.append(step), "POST", path("vms", "web", "start"))
    assert result == {"changed": True}
    assert told == [("booting", 1, 3)]
    assert paths == ["POST /v1/vms/web/start", *["GET /v1/operations/1?wait=30&progress=1"] * 2]


def test_a_failed_one_raises_what_it_failed_with(http: Http, short: Path) -> None:
    failure = {"code": "busy", "message": "web is busy: clone", "hint": "", "details": "", "exit_code": 4}
    _, answering = serving(operation("failed", error=failure))
    with http_daemon(short / "d", answering), pytest.raises(Busy, match="web is busy"):  # type: ignore[arg-type]
        follow(http, silent, "POST", path("vms", "web", "start"))


@pytest.mark.parametrize(("state", "code"), [("cancelled", "cancelled"), ("lost", "operation-lost")])
def test_one_that_came_to_nothing_says_so(http: Http, short: Path, state: str, code: str) -> None:
    _, answering = serving(operation(state))
    with http_daemon(short / "d", answering), pytest.raises(AppcatError) as caught:  # type: ignore[arg-type]
        follow(http, silent, "POST", path("vms", "web", "start"))
    assert caught.value.code == code


def test_an_interrupt_calls_it_off_once(http: Http, short: Path) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    paths, answering = serving(operation("running", step="booting"))
    with http_daemon(short / "d", answering), pytest.raises(KeyboardInterrupt):  # type: ignore[arg-type]
        follow(http, interrupt, "POST", path("vms", "web", "start"))
    assert paths == ["POST /v1/vms/web/start", "POST /v1/operations/1/cancel"]
