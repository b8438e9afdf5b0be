"""What streams through a real daemon: commands, files, logs, consoles and tunnels of a real vm."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import socket
import tarfile
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from tests.api import Api, Shell, daemon_with_web
from tests.cat import Cat, wait_until
from tests.conftest import cat_in, new_home

pytestmark = [pytest.mark.vm, pytest.mark.xdist_group("daemon-streams")]

MIB = 1 << 20
BYTES = {"Content-Type": "application/octet-stream"}
TAR = {"Content-Type": "application/x-tar"}


@pytest.fixture(scope="module")
def home(cache: Any, request: pytest.FixtureRequest) -> Iterator[Cat]:
    yield from cat_in(new_home(), cache, request)


@pytest.fixture(scope="module")
def api(home: Cat) -> Iterator[Api]:
    """A daemon with one running vm, ``web``."""
    with daemon_with_web(home) as found:
        yield found


# --- inside


def test_command_with_input_and_both_outputs(api: Api) -> None:
    command = ["sh", "-c", "cat; echo bad >&2; exit 7"]
    done = api.call("POST", "/v1/vms/web/exec", {"command": command, "stdin": "grüße"})
    assert done == {"status": 7, "stdout": "grüße", "stderr": "bad\n", "truncated": False}


def test_output_of_a_request_is_bounded(api: Api) -> None:
    done = api.call("POST", "/v1/vms/web/exec", {"command": ["sh", "-c", "head -c 3000000 /dev/zero; exit 4"]})
    assert (done["status"], len(done["stdout"]), done["truncated"]) == (4, MIB, True)


def test_command_is_ended_after_its_time(api: Api) -> None:
    api.fails("deadline-exceeded", 504, "POST", "/v1/vms/web/exec", {"command": ["sleep", "1000"], "timeout": 1})
    assert running(api, "sleep") == 0


def test_command_with_streams(api: Api) -> None:
    shell = Shell(api, "web", ["sh", "-c", "echo bad >&2; cat; exit 5"], stdin=True)
    data = os.urandom(3 * MIB)
    sender = threading.Thread(
        target=lambda: [shell.socket.send(data[at : at + MIB // 4]) for at in range(0, len(data), MIB // 4)]
    )
    sender.start()
    while len(shell.out) < len(data):
        shell.read_one()
    sender.join()
    shell.socket.send(b"")
    assert shell.end() == {"type": "exit", "status": 5}
    assert (shell.out == data, shell.err) == (True, b"bad\n")


def test_command_on_a_terminal_keeps_its_size(api: Api) -> None:
    terminal = {"kind": "xterm", "columns": 91, "rows": 23}
    shell = Shell(api, "web", ["sh"], stdin=True, terminal=terminal)
    shell.socket.send(b"tty; stty size\n")
    shell.until(b"23 91")
    shell.socket.send(json.dumps({"type": "resize", "columns": 132, "rows": 43}))
    while b"43 132" not in shell.out:
        shell.socket.send(b"stty size\n")
        shell.read_one()
        time.sleep(0.2)
    shell.socket.send(b"exit 9\n")
    assert shell.end() == {"type": "exit", "status": 9}
    assert b"/dev/pts/" in shell.out


def test_interrupt_ends_a_command(api: Api) -> None:
    shell = Shell(api, "web", ["sh", "-c", "echo on; sleep 1000"])
    shell.until(b"on\n")
    shell.socket.send(json.dumps({"type": "interrupt"}))
    assert shell.end() == {"type": "exit", "status": 130}
    assert running(api, "sleep") == 0


@pytest.mark.parametrize(
    "first", ["nonsense", json.dumps({"command": []}), json.dumps({"command": ["x"], "colour": 1}), b"\x00"]
)
def test_first_message_that_is_none_is_an_error(api: Api, first: str | bytes) -> None:
    with api.stream("/v1/vms/web/exec") as stream:
        stream.send(first)
        told = json.loads(stream.recv(30))
        assert (told["type"], told["error"]["code"]) == ("error", "invalid-input")


@pytest.mark.parametrize("what", ["exec", "console", "tunnel?port=22"])
def test_stream_to_a_vm_that_is_not_there_is_refused_before_it_begins(api: Api, what: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        api.stream(f"/v1/vms/nope/{what}")
    assert refused.value.response.status_code == 404
    assert json.loads(refused.value.response.body or b"")["code"] == "vm-not-found"


def running(api: Api, program: str) -> int:
    """How many processes of the guest run it."""
    return int(api.guest("web", f"pidof {program} | wc -w"))


def vanish(stream: ClientConnection) -> None:
    """As a client whose process is killed: no good-bye."""
    stream.socket.shutdown(socket.SHUT_RDWR)
    stream.socket.close()


@pytest.mark.parametrize(
    ("command", "options"),
    [
        (["sleep", "1000"], {}),
        (["sh", "-c", "sleep 1000"], {"terminal": {"kind": "xterm", "columns": 80, "rows": 24}, "stdin": True}),
        (["sh", "-c", "yes & sleep 1000"], {}),
    ],
    ids=["silent", "terminal", "talking"],
)
def test_client_that_vanishes_ends_its_command(api: Api, command: list[str], options: dict[str, Any]) -> None:
    before = api.threads(), api.descriptors()
    shell = Shell(api, "web", command, **options)
    wait_until(lambda: running(api, "sleep") == 1, what="the command")
    vanish(shell.socket)
    wait_until(lambda: running(api, "sleep") + running(api, "yes") == 0, what="its end")
    wait_until(lambda: api.threads() <= before[0] + 2 and api.descriptors() <= before[1], what="nothing left")


def test_client_that_gives_up_a_request_ends_its_command(api: Api) -> None:
    line = socket.socket(socket.AF_UNIX)
    line.connect(str(api.socket))
    body = b'{"command": ["sleep", "1000"]}'
    head = f"POST /v1/vms/web/exec HTTP/1.1\r\nHost: appcat\r\nContent-Length: {len(body)}\r\n"
    line.sendall(head.encode() + b"Content-Type: application/json\r\n\r\n" + body)
    wait_until(lambda: running(api, "sleep") == 1, what="the command")
    line.close()
    wait_until(lambda: running(api, "sleep") == 0, what="its end")


def test_client_that_vanishes_while_nobody_reads_its_input_ends_its_command(api: Api) -> None:
    before = api.descriptors()
    shell = Shell(api, "web", ["sleep", "1000"], stdin=True)
    sender = threading.Thread(target=lambda: _send_until_closed(shell.socket), daemon=True)
    sender.start()
    wait_until(lambda: running(api, "sleep") == 1, what="the command")
    time.sleep(2)  # until every buffer is full
    vanish(shell.socket)
    wait_until(lambda: running(api, "sleep") == 0, what="its end")
    wait_until(lambda: api.descriptors() <= before, what="nothing left")


def _send_until_closed(stream: ClientConnection) -> None:
    with contextlib.suppress(ConnectionClosed, OSError):
        while True:
            stream.send(bytes(MIB // 4))


# --- files


def test_file_goes_in_and_out_as_it_is(api: Api) -> None:
    data = os.urandom(100_000)
    done = api.call("PUT", "/v1/vms/web/files?path=/root/data.bin&mode=0640", content=data, headers=BYTES)
    assert done == {"files": 1, "bytes": len(data), "skipped": []}
    answer = api.send("GET", "/v1/vms/web/files?path=/root/data.bin")
    assert (answer.content == data, answer.headers["Content-Type"]) == (True, "application/octet-stream")
    assert api.guest("web", "stat -c %a /root/data.bin") == "640\n"
    api.call("PUT", "/v1/vms/web/files?path=data.bin", content=b"new", headers=BYTES)
    assert (
        api.guest("web", "cat /root/data.bin; stat -c %a /root/data.bin; ls -a /root | grep -c '^.appcat-' || :")
        == "new640\n0\n"
    )


def test_large_file_goes_both_ways(api: Api) -> None:
    api.guest(
        "web", "mount -o remount,size=200m / 2>/dev/null; mkdir -p /tmp/big && mount -t tmpfs -o size=100m big /tmp/big"
    )
    piece = os.urandom(MIB)
    digest = hashlib.sha256()

    def pieces() -> Iterator[bytes]:
        for number in range(64):
            data = bytes([number]) + piece[1:]
            digest.update(data)
            yield data

    done = api.call("PUT", "/v1/vms/web/files?path=/tmp/big/file", content=pieces(), headers=BYTES)
    assert done["bytes"] == 64 * MIB
    assert api.guest("web", "sha256sum < /tmp/big/file").split()[0] == digest.hexdigest()
    back = hashlib.sha256()
    with api.http.stream("GET", "/v1/vms/web/files?path=/tmp/big/file") as answer:
        for data in answer.iter_bytes():
            back.update(data)
    assert back.hexdigest() == digest.hexdigest()
    api.guest("web", "umount /tmp/big")


def test_directory_goes_both_ways_as_an_archive(api: Api) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, data in {"tree/a": b"one", "tree/sub/b": b"\0\xff" * 3000}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("tree/link")
        link.type, link.linkname = tarfile.SYMTYPE, "a"
        tar.addfile(link)
    done = api.call("PUT", "/v1/vms/web/files?path=/root", content=archive.getvalue(), headers=TAR)
    assert (done["files"], done["bytes"]) == (3, 6003)
    answer = api.send("GET", "/v1/vms/web/files?path=/root/tree")
    assert answer.headers["Content-Type"] == "application/x-tar"
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as tar:
        assert sorted(tar.getnames()) == [".", "./a", "./link", "./sub", "./sub/b"]
        found = tar.extractfile("./sub/b")
        assert found is not None and found.read() == b"\0\xff" * 3000
    one = api.send("GET", "/v1/vms/web/files?path=/root/tree/a", headers={"Accept": "application/x-tar"})
    with tarfile.open(fileobj=io.BytesIO(one.content)) as tar:
        assert tar.getnames() == ["./a"]


@pytest.mark.parametrize(
    ("code", "status", "method", "query", "headers"),
    [
        ("no-such-file", 404, "GET", "path=/nope", {}),
        ("no-such-directory", 404, "PUT", "path=/nope/x", BYTES),
        ("no-such-directory", 404, "PUT", "path=/nope", TAR),
        ("invalid-input", 400, "PUT", "path=/root", BYTES),
        ("invalid-input", 400, "GET", "path=/dev/null", {}),
        ("invalid-input", 400, "GET", "path=", {}),
        ("invalid-input", 400, "GET", "path=/a%00b", {}),
        ("invalid-input", 400, "PUT", "path=/root/x&mode=999", BYTES),
        ("invalid-archive", 400, "PUT", "path=/root", TAR),
    ],
)
def test_transfer_that_cannot_be_is_refused(
    api: Api, code: str, status: int, method: str, query: str, headers: dict[str, str]
) -> None:
    content = {} if method == "GET" else {"content": b"no archive" * 100}
    api.fails(code, status, method, f"/v1/vms/web/files?{query}", headers=headers, **content)


def test_client_that_vanishes_while_it_sends_leaves_the_old_file(api: Api) -> None:
    before = api.threads(), api.descriptors()
    api.call("PUT", "/v1/vms/web/files?path=/root/kept", content=b"old", headers=BYTES)
    for length in (b"Content-Length: 1000000\r\n", b"Transfer-Encoding: chunked\r\n"):
        line = socket.socket(socket.AF_UNIX)
        line.connect(str(api.socket))
        line.sendall(b"PUT /v1/vms/web/files?path=/root/kept HTTP/1.1\r\nHost: appcat\r\n" + length)
        line.sendall(b"Content-Type: application/octet-stream\r\n\r\n")
        line.sendall(b"8000\r\n" + bytes(0x8000) + b"\r\n" if b"chunked" in length else bytes(500_000))
        wait_until(lambda: api.guest("web", "ls -a /root | grep -c '^.appcat-' || :") == "1\n", what="the upload")
        line.close()
        wait_until(lambda: api.guest("web", "ls -a /root | grep -c '^.appcat-' || :") == "0\n", what="its end")
        assert api.guest("web", "cat /root/kept") == "old"
    wait_until(lambda: api.threads() <= before[0] + 2 and api.descriptors() <= before[1], what="nothing left")


def test_client_that_vanishes_while_it_receives_leaves_nothing(api: Api) -> None:
    before = api.descriptors()
    with api.http.stream("GET", "/v1/vms/web/files?path=/bin") as answer:
        next(answer.iter_bytes())
    wait_until(lambda: api.descriptors() <= before, what="nothing left")


# --- logs, console, tunnel, ssh


def test_logs(api: Api) -> None:
    whole = api.send("GET", "/v1/vms/web/logs").content
    assert b"console" in whole
    assert api.send("GET", "/v1/vms/web/logs?tail=1").content == whole.splitlines(keepends=True)[-1]
    assert api.send("GET", "/v1/vms/web/logs?tail=0").content == b""
    api.fails("invalid-input", 400, "GET", "/v1/vms/web/logs?source=me")


def test_logs_are_followed(api: Api) -> None:
    with api.http.stream("GET", "/v1/vms/web/logs?follow=true&tail=0") as answer:
        assert answer.status_code == 200
        pieces = answer.iter_bytes()
        api.guest("web", "echo spoken-on-the-line > /dev/console")
        heard = b""
        while b"spoken-on-the-line" not in heard:
            heard += next(pieces)


def test_console_is_joined_and_held(api: Api) -> None:
    with api.stream("/v1/vms/web/console") as stream:
        stream.send(b"\n\necho $((6 * 7))-$((1 + 1))\n")
        heard = b""
        while b"42-2" not in heard:
            heard += stream.recv(60)  # type: ignore[operator]
        with pytest.raises(InvalidStatus) as refused:
            api.stream("/v1/vms/web/console")
        assert refused.value.response.status_code == 409
        stream.send(b"")
        while isinstance(frame := stream.recv(60), bytes):
            pass
        assert json.loads(frame) == {"type": "end", "ending": "input-ended"}


def test_console_of_a_client_that_vanished_is_free_again(api: Api) -> None:
    before = api.descriptors()
    stream = api.stream("/v1/vms/web/console")
    vanish(stream)

    def held() -> bool:
        try:
            api.stream("/v1/vms/web/console").close()
        except InvalidStatus:
            return False
        return True

    wait_until(held, what="the console")
    wait_until(lambda: api.descriptors() <= before, what="nothing left")


def test_tunnel_leads_into_the_guest(api: Api) -> None:
    api.guest(
        "web", "mkdir -p /tmp/www && yes tunnel | head -c 200000 > /tmp/www/file && httpd -p 127.0.0.1:7777 -h /tmp/www"
    )
    before = api.descriptors()
    with api.stream("/v1/vms/web/tunnel?port=7777") as stream:
        stream.send(b"GET /file HTTP/1.0\r\n\r\n")
        heard = b""
        while frame := stream.recv(60):
            heard += frame  # type: ignore[operator]
        assert heard.partition(b"\r\n\r\n")[2] == (b"tunnel\n" * 30_000)[:200_000]
        stream.send(b"")
        with pytest.raises(ConnectionClosed):
            stream.recv(30)
    with pytest.raises(InvalidStatus) as refused:
        api.stream("/v1/vms/web/tunnel?port=7778")
    assert json.loads(refused.value.response.body or b"")["code"] == "tunnel-failed"
    with pytest.raises(InvalidStatus) as refused:
        api.stream("/v1/vms/web/tunnel?port=80000")
    assert json.loads(refused.value.response.body or b"")["code"] == "invalid-port"
    wait_until(lambda: api.descriptors() <= before, what="nothing left")


def test_tunnel_of_a_client_that_vanished_ends(api: Api) -> None:
    before = api.threads(), api.descriptors()
    stream = api.stream("/v1/vms/web/tunnel?port=22")
    assert stream.recv(30).startswith(b"SSH-")  # type: ignore[arg-type]
    vanish(stream)
    wait_until(lambda: api.threads() <= before[0] + 2 and api.descriptors() <= before[1], what="nothing left")


def test_ssh_access_is_told(api: Api) -> None:
    told = api.call("GET", "/v1/vms/web/ssh")
    assert (told["user"], told["port"], told["host_key"].split()[0]) == ("root", 22, "ssh-ed25519")
    assert told["private_key"].startswith("-----BEGIN OPENSSH PRIVATE KEY-----")
