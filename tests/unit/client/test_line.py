"""WebSockets to a daemon that does what it likes: against a real server, with ``websockets``' own."""

from __future__ import annotations

import io
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO

import pytest
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, unix_serve

from appcat.client.console import console
from appcat.client.execute import execute
from appcat.client.http import Http
from appcat.client.transport import UnixDialer
from appcat.client.tunnel import tunnel
from appcat.errors import Busy, DeadlineExceeded, InsufficientSpace, NotFound, Unavailable
from appcat.guest.remote import Streams, Terminal
from appcat.services.console import Ending, Ends

MIB = 1 << 20
Serving = Callable[[ServerConnection], None]


@contextmanager
def daemon(directory: Path, serving: Serving, refusal: tuple[int, object] | None = None) -> Iterator[Http]:
    """What talks to a daemon that serves every WebSocket so, or refuses it with an HTTP answer."""

    def refuse(connection: ServerConnection, request: Request) -> Response | None:
        if refusal is None:
            return None
        status, body = refusal
        data = json.dumps(body).encode()
        return Response(status, "Refused", Headers([("Content-Length", str(len(data)))]), data)

    def serve(connection: ServerConnection) -> None:
        with suppress(ConnectionClosed):
            serving(connection)

    path = directory / "d"
    with unix_serve(serve, str(path), process_request=refuse, compression=None) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Http(UnixDialer("unix://", path), "")
        server.shutdown()


def begun(connection: ServerConnection) -> dict[str, object]:
    """The first frame, answered as it should be."""
    request: dict[str, object] = json.loads(connection.recv())
    connection.send(json.dumps({"type": "started"}))
    return request


def leave(connection: ServerConnection, status: int = 0) -> None:
    connection.send(json.dumps({"type": "exit", "status": status}))


@contextmanager
def piped(data: bytes) -> Iterator[BinaryIO]:
    """Standard input that gives ``data``, however much it is."""
    reader, writer = os.pipe()

    def write() -> None:
        with suppress(BrokenPipeError), open(writer, "wb") as file:  # noqa: PTH123
            file.write(data)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    with open(reader, "rb") as file:  # noqa: PTH123
        yield file
    thread.join()


def run(http: Http, stdin: BinaryIO | None = None, **more: object) -> tuple[int, bytes, bytes]:
    out, err = io.BytesIO(), io.BytesIO()
    status = execute(http, "web", ["a", "b c"], Streams(stdin, out, err), **more)  # type: ignore[arg-type]
    return status, out.getvalue(), err.getvalue()


# --- commands


def test_a_command_and_its_streams(short: Path) -> None:
    def serving(connection: ServerConnection) -> None:
        assert begun(connection) == {"command": ["a", "b c"], "timeout": None, "stdin": True, "terminal": None}
        got = b""
        while data := connection.recv():
            assert isinstance(data, bytes)
            got += data
        connection.send(b"\x01" + got.upper())
        connection.send(b"\x02no\n")
        leave(connection, 7)

    with daemon(short, serving) as http, piped(b"in") as stdin:
        assert run(http, stdin) == (7, b"IN", b"no\n")


def test_empty_and_unknown_frames_are_nothing(short: Path) -> None:
    def serving(connection: ServerConnection) -> None:
        begun(connection)
        for frame in (b"\x01", b"", b"\x09x", b"\x01still", "no json", '{"type": "news"}', b"\x01 there"):
            connection.send(frame)
        leave(connection)

    with daemon(short, serving) as http:
        assert run(http) == (0, b"still there", b"")


def test_both_sides_may_push_back(short: Path) -> None:
    """An echo that reads nothing while what it said is not taken, as cat does: more than all buffers hold."""

    def serving(connection: ServerConnection) -> None:
        begun(connection)
        while data := connection.recv():
            assert isinstance(data, bytes)
            connection.send(b"\x01" + data)
        leave(connection)

    data = os.urandom(MIB) * 16
    with daemon(short, serving) as http, piped(data) as stdin:
        assert run(http, stdin) == (0, data, b"")


def test_what_nobody_takes_here_is_not_read_there(short: Path) -> None:
    sent = 0

    def serving(connection: ServerConnection) -> None:
        nonlocal sent
        begun(connection)
        while True:
            connection.send(b"\x01" + bytes(MIB))
            sent += MIB

    reader, writer = os.pipe()
    streams = Streams(None, open(writer, "wb", buffering=0), io.BytesIO())  # noqa: PTH123, SIM115
    with daemon(short, serving) as http:
        running = threading.Thread(target=partial(_broken, http, streams), daemon=True)
        running.start()
        before = -1
        while sent != before or not sent:  # until it stands still
            before = sent
            time.sleep(0.3)
        assert sent <= 8 * MIB
        os.close(reader)
        running.join()
        streams.stdout.close()


def _broken(http: Http, streams: Streams) -> None:
    with pytest.raises(BrokenPipeError):
        execute(http, "web", ["yes"], streams)


def test_a_full_disk_here_is_told(short: Path) -> None:
    def serving(connection: ServerConnection) -> None:
        begun(connection)
        while True:
            connection.send(b"\x01" + bytes(MIB))

    with (
        daemon(short, serving) as http,
        open("/dev/full", "wb", buffering=0) as full,  # noqa: PTH123
        pytest.raises(InsufficientSpace),
    ):
        execute(http, "web", ["yes"], Streams(None, full, io.BytesIO()))


def test_a_file_that_is_closed_here_ends_it(short: Path) -> None:
    def serving(connection: ServerConnection) -> None:
        begun(connection)
        connection.send(b"\x01x")
        connection.recv()

    closed = io.BytesIO()
    closed.close()
    with daemon(short, serving) as http, pytest.raises(Unavailable):
        execute(http, "web", ["yes"], Streams(None, closed, io.BytesIO()))


def test_a_terminal_tells_its_size_and_every_new_one(short: Path) -> None:
    sizes = [(80, 24)]

    def serving(connection: ServerConnection) -> None:
        assert begun(connection)["terminal"] == {"kind": "xterm", "columns": 80, "rows": 24}
        sizes.append((100, 30))
        assert json.loads(connection.recv()) == {"type": "resize", "columns": 100, "rows": 30}
        leave(connection, 5)

    with daemon(short, serving) as http:
        assert run(http, terminal=Terminal("xterm", lambda: sizes[-1])) == (5, b"", b"")


def test_an_interrupt_is_passed_on_before_the_line_goes(short: Path) -> None:
    told: list[object] = []

    def serving(connection: ServerConnection) -> None:
        begun(connection)
        told.append(json.loads(connection.recv()))
        leave(connection, 130)

    with daemon(short, serving) as http, pytest.raises(KeyboardInterrupt):
        looks = iter([(80, 24), (80, 24)])
        run(http, terminal=Terminal("xterm", lambda: next(looks, None) or _interrupt()))
    assert told == [{"type": "interrupt"}]


def _interrupt() -> tuple[int, int]:
    raise KeyboardInterrupt


# --- what goes wrong


def test_errors_before_and_after_it_began(short: Path) -> None:
    missing = {"code": "vm-not-found", "message": "there is no vm", "exit_code": 3}
    with daemon(short, leave, (404, missing)) as http, pytest.raises(NotFound, match="there is no vm"):
        run(http)

    def serving(connection: ServerConnection) -> None:
        begun(connection)
        error = {"code": "deadline-exceeded", "message": "too long", "exit_code": 9}
        connection.send(json.dumps({"type": "error", "error": error}))

    other = short / "other"
    other.mkdir()
    with daemon(other, serving) as http, pytest.raises(DeadlineExceeded, match="too long"):
        run(http, timeout=5.0)


def test_a_daemon_that_goes_is_told(short: Path) -> None:
    def serving(connection: ServerConnection) -> None:
        begun(connection)
        connection.send(b"\x01some")

    with daemon(short, serving) as http, pytest.raises(Unavailable):
        run(http)


def test_something_else_than_a_daemon(short: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(short / "d"))
        listener.listen()

        def answer() -> None:
            for words in (b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"):
                accepted, _ = listener.accept()
                with accepted:
                    accepted.recv(4096)
                    accepted.sendall(words)

        threading.Thread(target=answer, daemon=True).start()
        http = Http(UnixDialer("unix://", short / "d"), "")
        for _ in range(3):
            with pytest.raises(Exception) as caught:
                run(http)
            assert getattr(caught.value, "code", "") in ("unreachable", "bad-answer")


# --- consoles and tunnels


def test_a_console_that_ends_with_its_vm(short: Path) -> None:
    def serving(connection: ServerConnection) -> None:
        assert connection.recv() == b"typed"
        connection.send(b"shown")
        connection.send(json.dumps({"type": "end", "ending": "vm-ended"}))

    reader, writer = os.pipe()
    out = io.BytesIO()
    with daemon(short, serving) as http, open(reader, "rb", buffering=0) as stdin:  # noqa: PTH123
        os.write(writer, b"typed")
        with console(http, "web") as line:
            assert line.join(Ends(stdin, out)) is Ending.VM_ENDED
        os.close(writer)
    assert out.getvalue() == b"shown"


def test_a_console_that_somebody_has(short: Path) -> None:
    busy = {"code": "busy", "message": "web is busy: console", "exit_code": 4}
    with daemon(short, leave, (409, busy)) as http, pytest.raises(Busy), console(http, "web"):
        pass


def test_a_tunnel_and_its_ends(short: Path) -> None:
    over = threading.Event()

    def serving(connection: ServerConnection) -> None:
        got = b""
        while data := connection.recv():
            assert isinstance(data, bytes)
            got += data
        connection.send(got[::-1])
        connection.send(b"")
        with pytest.raises(ConnectionClosed):
            connection.recv()
        over.set()

    with daemon(short, serving) as http, tunnel(http, "web", 22) as connection:
        connection.sendall(b"abc")
        connection.shutdown(socket.SHUT_WR)
        assert connection.makefile("rb").read() == b"cba"
        connection.close()
        assert over.wait(10)


def test_a_tunnel_that_is_dropped_here_is_dropped_there(short: Path) -> None:
    over = threading.Event()

    def serving(connection: ServerConnection) -> None:
        with pytest.raises(ConnectionClosed):
            while True:
                connection.recv()
        over.set()

    with daemon(short, serving) as http:
        tunnel(http, "web", 22).close()
        assert over.wait(10)
