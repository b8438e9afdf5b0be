"""What is issued is believed by OpenSSL in the role it was issued for, and only then."""

from __future__ import annotations

import base64
import socket
import ssl
import threading
from pathlib import Path

import pytest

from appcat.errors import Broken
from appcat.guest.certificate import Pair, Role, certificate_statements, issue, new_authority

AUTHORITY = new_authority("home")


def context(place: Path, purpose: ssl.Purpose, own: Pair, authority: Pair) -> ssl.SSLContext:
    for name, data in (("ca", authority.certificate), ("cert", own.certificate), ("key", own.key)):
        (place / name).write_bytes(data)
    made = ssl.create_default_context(purpose, cafile=str(place / "ca"))
    made.verify_mode = ssl.CERT_REQUIRED
    made.load_cert_chain(place / "cert", place / "key")
    return made


def connects(place: Path, server: Pair, client: Pair, name: str, authority: Pair = AUTHORITY) -> str:
    """What keeps the two from speaking, or nothing."""
    inner, outer = socket.socketpair()
    serving = context(place, ssl.Purpose.CLIENT_AUTH, server, AUTHORITY)
    calling = context(place, ssl.Purpose.SERVER_AUTH, client, authority)
    told: list[str] = []

    def serve() -> None:
        try:
            with inner, serving.wrap_socket(inner, server_side=True) as speaking:
                speaking.sendall(b"hello")
        except OSError as error:
            told.append(str(error))

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with outer, calling.wrap_socket(outer, server_hostname=name) as speaking:
            if speaking.recv(5) != b"hello":
                told.append("nothing came")
    except OSError as error:
        told.append(str(error))
    thread.join()
    return "; ".join(told)


SERVER = issue(AUTHORITY, "web", Role.SERVER, ["web", "127.1.2.3"])
CLIENT = issue(AUTHORITY, "user", Role.CLIENT)


def test_both_sides_believe_whom_the_authority_signed_for(tmp_path: Path) -> None:
    assert connects(tmp_path, SERVER, CLIENT, "127.1.2.3") == ""
    assert connects(tmp_path, SERVER, CLIENT, "web") == ""


def test_nobody_else_is_believed(tmp_path: Path) -> None:
    other = new_authority("other")
    assert "not valid for" in connects(tmp_path, SERVER, CLIENT, "127.1.2.4")
    assert "verify failed" in connects(tmp_path, SERVER, CLIENT, "web", other)
    assert connects(tmp_path, SERVER, issue(other, "user", Role.CLIENT), "web") != ""


def test_a_role_is_not_the_other(tmp_path: Path) -> None:
    assert connects(tmp_path, CLIENT, CLIENT, "web") != ""
    assert connects(tmp_path, SERVER, SERVER, "web") != ""


def test_a_guest_is_given_three_files() -> None:
    lines = [line.split() for line in certificate_statements("/etc/tls", AUTHORITY.certificate, SERVER)]
    assert [(mode, path) for _, mode, path, _ in lines] == [
        ("0644", "/etc/tls/ca.crt"),
        ("0600", "/etc/tls/host.key"),
        ("0644", "/etc/tls/host.crt"),
    ]
    assert base64.b64decode(lines[1][3]) == SERVER.key


def test_what_is_no_pair_is_not_fresh() -> None:
    assert SERVER.is_fresh
    assert not Pair(SERVER.certificate, CLIENT.key).is_fresh
    assert not Pair(b"", b"").is_fresh
    assert not Pair(SERVER.certificate, b"nonsense").is_fresh


def test_a_damaged_authority_is_told() -> None:
    with pytest.raises(Broken, match="authority of this home"):
        issue(Pair(AUTHORITY.certificate, b"nonsense"), "web", Role.SERVER)
