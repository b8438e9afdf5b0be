"""Who answers is known before anything is said, and why nobody does is told."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from appcat.client import ssh
from appcat.client.http import Http, path
from appcat.client.ssh import SshDialer, arguments
from appcat.client.tls import TlsDialer
from appcat.client.transport import TcpDialer, UnixDialer, dialer
from appcat.errors import InvalidInput, Unavailable
from appcat.model.remote import Remote, parse_url
from tests.unit.support.daemons import http_daemon, make_certificate, tls_server

PATIENCE = 10.0


def tls(port: int, **known: str) -> TlsDialer:
    url = f"https://127.0.0.1:{port}"
    return TlsDialer(url, parse_url(url), **known)


def echoed(connection: socket.socket) -> bytes:
    with connection:
        connection.sendall(b"x")
        return connection.recv(16)


def test_a_url_says_which_way(tmp_path: Path) -> None:
    own = tmp_path / "own.sock"
    assert dialer(Remote("unix://"), own) == UnixDialer("unix://", own)
    assert dialer(Remote("unix:///x"), own) == UnixDialer("unix:///x", Path("/x"))
    assert isinstance(dialer(Remote("http://127.0.0.1:1"), own), TcpDialer)
    assert isinstance(dialer(Remote("https://lab"), own), TlsDialer)
    assert isinstance(dialer(Remote("ssh://lab"), own), SshDialer)
    with pytest.raises(InvalidInput):
        dialer(Remote("http://lab"), own)


# --- sockets


def test_a_socket_that_is_not_there_or_dead_is_no_daemon(short: Path) -> None:
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(short / "dead"))
    dead.close()
    for name in ("none", "dead"):
        with pytest.raises(Unavailable) as caught:
            UnixDialer("unix://", short / name).dial(PATIENCE)
        assert caught.value.code == "no-daemon"


def test_a_path_that_is_too_long_for_a_socket_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        UnixDialer("unix://", tmp_path / ("x" * 120)).dial(PATIENCE)


def test_a_port_without_a_daemon() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with pytest.raises(Unavailable) as caught:
        TcpDialer(url, parse_url(url)).dial(PATIENCE)
    assert caught.value.code == "no-daemon"


# --- TLS


def test_the_pinned_certificate_is_enough(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    with tls_server(certificate) as port:
        assert echoed(tls(port, fingerprint=certificate.fingerprint).dial(PATIENCE)) == b"x"


def test_another_certificate_than_the_pinned_one_is_refused(tmp_path: Path) -> None:
    with tls_server(make_certificate(tmp_path)) as port, pytest.raises(Unavailable) as caught:
        tls(port, fingerprint="0" * 64).dial(PATIENCE)
    assert caught.value.code == "fingerprint-mismatch"
    assert "0" * 64 in caught.value.details


def test_an_authority_of_ones_own_is_trusted_with_its_names(tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    with tls_server(certificate) as port:
        assert echoed(tls(port, ca_file=str(certificate.path)).dial(PATIENCE)) == b"x"
        url = f"https://localhost:{port}"  # the certificate is for 127.0.0.1
        with pytest.raises(Unavailable) as caught:
            TlsDialer(url, parse_url(url), ca_file=str(certificate.path)).dial(PATIENCE)
    assert caught.value.code == "tls-untrusted"


def test_a_certificate_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    with tls_server(make_certificate(tmp_path)) as port, pytest.raises(Unavailable) as caught:
        tls(port).dial(PATIENCE)
    assert caught.value.code == "tls-untrusted"
    assert "--fingerprint" in caught.value.hint


def test_a_file_without_certificates_is_bad_input(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("nothing")
    with pytest.raises(InvalidInput):
        tls(1, ca_file=str(path)).dial(PATIENCE)


def test_a_server_without_tls_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        pid = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "import socket,sys; s = socket.socket(fileno=int(sys.argv[1])); c, _ = s.accept();"
                "c.recv(9999); c.sendall(b'HTTP/1.1 400 x\\r\\n\\r\\n'); c.close()",
                str(listener.fileno()),
            ],
            pass_fds=[listener.fileno()],
        )
        with pytest.raises(Unavailable) as caught:
            tls(listener.getsockname()[1]).dial(PATIENCE)
        pid.wait(PATIENCE)
    assert "speaks no TLS" in caught.value.message


# --- ssh


def test_ssh_is_told_where_and_nothing_more(tmp_path: Path) -> None:
    argv = arguments(parse_url("ssh://me@build:2222"), tmp_path)
    assert argv[-7:] == ["-p", "2222", "-l", "me", "--", "build", "appcat daemon dial"]
    assert argv[0] == "-T"
    assert f"ControlPath={tmp_path}/%C" in argv
    assert arguments(parse_url("ssh://build"), tmp_path)[-3:] == ["--", "build", "appcat daemon dial"]


def test_masters_listen_in_a_private_directory(short: Path) -> None:
    assert ssh.control_directory(short / "run").stat().st_mode & 0o777 == 0o700
    (short / "open").mkdir(0o777)
    (short / "open").chmod(0o777)
    with pytest.raises(Unavailable):
        ssh.control_directory(short / "open")


@pytest.fixture
def fake_ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program that is called ssh; what it does is written into it by a test."""
    program = tmp_path / "bin" / "ssh"
    program.parent.mkdir()
    program.touch(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return program


def over_ssh(short: Path) -> Http:
    return Http(SshDialer("ssh://build", parse_url("ssh://build"), short / "run"), "")


def test_the_streams_of_ssh_are_the_connection(fake_ssh: Path, short: Path) -> None:
    fake_ssh.write_text(
        f"#!{sys.executable}\n"
        "import os, socket, threading\n"
        f"s = socket.socket(socket.AF_UNIX); s.connect({str(short / 'd')!r})\n"
        "def pass_on():\n"
        "    while data := os.read(0, 9999): s.sendall(data)\n"
        "    os._exit(0)\n"
        "threading.Thread(target=pass_on).start()\n"
        "while data := s.recv(9999): os.write(1, data)\n"
    )
    with http_daemon(short / "d", lambda asked: (200, {"path": asked.path})):
        http = over_ssh(short)
        assert http.call("GET", path("vms")) == {"path": "/v1/vms"}
        http.close()


def test_what_ssh_says_when_it_cannot_log_in_is_told(fake_ssh: Path, short: Path) -> None:
    fake_ssh.write_text("#!/bin/sh\necho 'Host key verification failed.' >&2\nexit 255\n")
    with pytest.raises(Unavailable) as caught:
        over_ssh(short).call("POST", path("vms"), body={})
    assert caught.value.message == "the connection to ssh://build was lost: Host key verification failed."
